"""Exploring Simple Siamese Representation Learning (SimSiam).

Xinlei Chen, Kaiming He. CVPR 2021, arXiv 2011.10566. With several targets: Daniel Pototzky, Azhar Sultan, Lars
Schmidt-Thieme, FastSiam: Resource-Efficient Self-Supervised Learning on a Single GPU, GCPR 2022.

Differs: the defaults suit small images (2 layers in the projector and not 3; widths of 512 and 128, and not 2048 and
512). Batch-norm statistics are those of a view of a micro-batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count


def negative_cosine(prediction: Float[Tensor, "v b d"], z: Float[Tensor, "v b d"]) -> Float[Tensor, ""]:
    """-cos of each view's prediction and the mean projection of the other views; the mean over all, in [-1, 1]."""
    z = z.float()
    target = (z.sum(dim=0) - z) / (len(z) - 1)  # (V, B, d)
    return -F.cosine_similarity(prediction.float(), target, dim=2).mean()


class SimSiam(Pretext):
    """Predicts, from one view of a sample, what the same network makes of its other view, without negatives.

    targets: other views of each sample, whose projections are averaged to be predicted; 1 is SimSiam, 3 FastSiam.
    hidden, out, layers: of the projector. predictor_hidden: width of the predictor's bottleneck.
    predictor, stop_gradient: the paper's ablations; without either of them features collapse.
    The predictor learns at the peak rate throughout, whatever the schedule, as in the paper.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        targets: Count = 1,
        hidden: Count = 512,
        out: Count = 512,
        layers: Count = 2,
        predictor_hidden: Count = 128,
        predictor: bool = True,
        stop_gradient: bool = True,
    ):
        super().__init__()
        self.encoder, self.augment, self.targets = encoder, augment, targets
        self.hidden, self.out, self.layers, self.predictor_hidden = hidden, out, layers, predictor_hidden
        self.stop_gradient = stop_gradient
        self.projector = mlp((encoder.dim, *[hidden] * (layers - 1), out), last="plain_norm")
        self.predictor = mlp((out, predictor_hidden, out)) if predictor else nn.Identity()

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return tuple(self.augment(batch.x, ctx.rng) for _ in range(self.targets + 1))

    def forward(self, views: tuple, group: str = "main") -> Loss:
        # A pass for each view, and so batch norm statistics of its own, as in the authors' code.
        z = torch.stack([self.projector(self.encoder(view).pooled) for view in views])  # (V, B, out)
        p = torch.stack([self.predictor(each) for each in z])
        value = negative_cosine(p, z.detach() if self.stop_gradient else z)
        embedding = z.flatten(0, 1)  # (V B, out)
        # 1 if the projections spread evenly over the sphere, 0 if they have collapsed to a point
        spread = F.normalize(embedding.detach().float(), dim=1).std(dim=0).mean() * self.out**0.5
        return Loss(value, {"spread": spread}, embedding)

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {} if isinstance(self.predictor, nn.Identity) else {"predictor": Rate(constant=True)}

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if not self.stop_gradient:
            cause = "pretext.stop_gradient=false, each view is pulled towards the other, and one point satisfies both"
            suspects.append(Suspect(cause, "pretext.stop_gradient=true", 1.0))
        if isinstance(self.predictor, nn.Identity):
            cause = "pretext.predictor=false, the other view is matched without a predictor"
            suspects.append(Suspect(cause, "pretext.predictor=true", 1.0))
        return suspects
