"""Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning.

Jean-Bastien Grill, Florian Strub, Florent Altché, Corentin Tallec, Pierre H. Richemond, et al. NeurIPS 2020,
arXiv 2006.07733.

Differs: the hidden width is 1024 and not 4096, for small encoders. The default momentum is the paper's for 300 epochs
and not for 1000, for short runs. Batch-norm statistics are those of a micro-batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Share


def distance(prediction: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Equation 2: the mean squared distance of the two on the unit sphere, 2 - 2 cos, in [0, 4]."""
    return 2 - 2 * F.cosine_similarity(prediction.float(), target.float(), dim=1).mean()


class BYOL(Pretext):
    """Predicts, from one view of a sample, the output of a slowly moving average of the network for its other view.

    `hidden` and `out` are the widths of projector and predictor; without `predictor` the projection itself is matched,
    which collapses (table 5b). `momentum` is the share of itself that the target keeps in the first step; it rises to 1
    along a cosine (the paper: 0.996 for 1000 epochs, 0.99 for 300). The target runs in training mode, as in the paper:
    its batch norm uses the statistics of the batch at hand. Its running statistics, which nothing reads in training,
    are copied from the online network.
    """

    kinds = ("image", "audio")

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Recipe,
        augment_prime: Recipe,
        momentum: Share = 0.99,
        predictor: bool = True,
        hidden: Count = 1024,
        out: Count = 256,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.momentum, self.hidden, self.out = momentum, hidden, out
        self.projector = mlp((encoder.dim, hidden, out))
        self.predictor = mlp((out, hidden, out)) if predictor else nn.Identity()
        self.target_encoder = frozen_copy(self.encoder)
        self.target_projector = frozen_copy(self.projector)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        # A pass for each view: T and T' differ, so each has batch norm statistics of its own (appendix J).
        z, z_prime = (self.projector(self.encoder(view).pooled) for view in views)  # each (B, out)
        with torch.no_grad():
            target, target_prime = (self.target_projector(self.target_encoder(view).pooled) for view in views)
        value = distance(self.predictor(z), target_prime) + distance(self.predictor(z_prime), target)  # below eq. 2
        embedding = torch.cat([z, z_prime])  # (2B, out)
        # 1 if the projections spread evenly over the sphere, 0 if they have collapsed to a point
        spread = F.normalize(embedding.detach().float(), dim=1).std(dim=0).mean() * self.out**0.5
        return Loss(value, {"spread": spread}, embedding)

    def suspects(self) -> Sequence[Suspect]:
        """Table 5: without a predictor, or with a target that is the online network itself, the paper saw collapses."""
        suspects = []
        if isinstance(self.predictor, nn.Identity):
            cause = "pretext.predictor=false, the target network is matched without a predictor"
            suspects.append(Suspect(cause, "pretext.predictor=true", 1.0))
        if self.momentum < 0.9:
            cause = f"pretext.momentum={self.momentum:g}, the target network follows too fast"
            suspects.append(Suspect(cause, "pretext.momentum=0.99", 0.8 - 0.5 * self.momentum))
        return suspects

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.target_encoder, self.encoder, momentum)
        follow(self.target_projector, self.projector, momentum)
