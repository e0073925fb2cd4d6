"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

Jure Zbontar, Li Jing, Ishan Misra, Yann LeCun, Stéphane Deny. ICML 2021, arXiv 2103.03230.

Differs: by default the loss is divided by the width, so that its size does not change with it. Correlations are of the
rows of all ranks, and not a mean of each rank's own. Biases and batch norms have the learning rate of the weights, and
not 0.024 of it. The defaults suit small images (a projector of 512 and not 8192, views of one recipe).
"""

from collections.abc import Sequence
from typing import Literal

import torch

from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.covariance import cross_correlation, off_diagonal


class BarlowTwins(Pretext):
    """Makes the correlations of two views' embeddings the identity: a dimension agrees with itself and with no other.

    `redundancy` is the weight of the correlations of different dimensions, lambda in the paper. `reduction` is what is
    made of the terms of the D dimensions: their mean, or their sum as in the paper, which is D times as large.
    `hidden` and `out` are the widths of the projector, which is thrown away.
    """

    kinds = ("image", "audio")

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Recipe,
        augment_prime: Recipe,
        redundancy: NotNegative = 0.0051,
        reduction: Literal["mean", "sum"] = "mean",
        hidden: Count = 512,
        out: Count = 512,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.redundancy, self.reduction, self.hidden, self.out = redundancy, reduction, hidden, out
        self.projector = mlp((encoder.dim, hidden, hidden, out), last="no_bias")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no correlations; raise batch_size or lower accumulate")
        z, z_prime = (self.projector(self.encoder(view).pooled).float() for view in views)  # each (B, out)
        with torch.autocast(z.device.type, enabled=False):
            c = cross_correlation(gather(z), gather(z_prime))  # (out, out), equation 2
            invariance = (1 - c.diagonal()).square().sum()
            redundancy = off_diagonal(c).square().sum()
            value = invariance + self.redundancy * redundancy  # equation 1
            if self.reduction == "mean":
                value = value / len(c)
        # 1 if both views say the same; the share of the squared correlations that dimensions have with others
        metrics = {"agreement": c.diagonal().mean(), "redundancy": redundancy / c.square().sum().clamp(min=1e-12)}
        return Loss(value, {name: each.detach() for name, each in metrics.items()}, torch.cat([z, z_prime]))

    def suspects(self) -> Sequence[Suspect]:
        if self.redundancy < 1e-4:
            cause = f"pretext.redundancy={self.redundancy:g}, dimensions may repeat one another"
            return [Suspect(cause, "pretext.redundancy=0.0051", 0.7 if self.redundancy else 0.9)]
        return []
