"""FroSSL: Frobenius Norm Minimization for Efficient Multiview Self-Supervised Learning.

Oscar Skean, Aayush Dhakal, Nathan Jacobs, Luis Gonzalo Sanchez Giraldo. ECCV 2024, arXiv 2310.02903.

Differs: the defaults suit small images and short runs (a projector of width 512 and not 2048). Dimensions are brought
to unit length and not standardised, as in the authors' code for several views, which has replaced that of the paper's
experiments with two. The loss is the mean over views and not their sum. All of it is of the samples of a micro-batch,
on all ranks.
"""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather_views
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.coding import collision_entropy


class FroSSL(Pretext):
    """Brings the views of a sample to their mean, and spreads the embeddings of each view evenly over all dimensions.

    Singular values are made equal through the Frobenius norm of the covariance, which needs no decomposition.

    view_count: views of each sample. invariance: the weight of the distance to the mean of the views.
    hidden, out: widths of the projector, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        view_count: Annotated[int, Ge(2)] = 4,
        invariance: NotNegative = 1.0,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.view_count, self.invariance, self.hidden, self.out = view_count, invariance, hidden, out
        self.projector = mlp((encoder.dim, hidden, hidden, out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """(view_count * B, C, H, W), view after view."""
        return (self.augment(batch.x.repeat(self.view_count, 1, 1, 1), ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(self.encoder(views[0]).pooled).float()  # (V B, out)
        unit = F.normalize(gather_views(z, self.view_count), dim=1)  # (V, N, out), each column of length 1
        distance = self.view_count * self.out * (unit - unit.mean(dim=0)).square().mean()  # equation 3
        entropy = collision_entropy(unit).mean()  # equation 6: 0 if embeddings collapsed, at most log(out)
        metrics = {"entropy": entropy.detach(), "distance": distance.detach()}
        return Loss(self.invariance * distance - entropy, metrics, z)

    def suspects(self) -> Sequence[Suspect]:
        if self.invariance > 100:
            cause = f"pretext.invariance={self.invariance:g} leaves the spread of embeddings without weight"
            return [Suspect(cause, "pretext.invariance=1", 0.6)]
        return []
