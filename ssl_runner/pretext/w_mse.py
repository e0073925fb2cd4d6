"""Whitening for Self-Supervised Representation Learning (W-MSE).

Aleksandr Ermolov, Aliaksandr Siarohin, Enver Sangineto, Nicu Sebe. ICML 2021, arXiv 2007.06346.

Differs: the covariance is shrunk a little towards the identity, so that collapsed embeddings have a loss. The output
layer has no bias, which whitening would take off. The defaults suit small images and short runs (32 dimensions and not
64, a hidden width of 512 and not 1024). Rows that are whitened together are drawn from a micro-batch, of all ranks.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count
from ssl_runner.loss.whitening import cholesky_whitening


class WMSE(Pretext):
    """Brings the views of a sample together on the sphere after whitening, which keeps samples apart without negatives.

    positives: views of a sample, d in the paper; all pairs of them are compared.
    window: rows that are whitened together, each view alone; at least twice `out` is advised. permutations: how many
        times the rows of a step are parted at random into such batches; rows that fill none are left out.
    shrinkage: share of the identity in the covariance. hidden, out: widths of the head, which is thrown away.
    Raises ValueError if the window, the batch or a micro-batch that is learnt from has so few rows that their
    covariance is singular: each micro-batch is whitened by itself.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        positives: Annotated[int, Ge(2)] = 2,
        window: Count = 128,
        permutations: Count = 1,
        shrinkage: Annotated[float, Interval(ge=0, lt=1)] = 1e-4,
        hidden: Count = 512,
        out: Count = 32,
    ):
        super().__init__()
        if window <= out:
            raise ValueError(f"{window} rows cannot whiten {out} dimensions; type pretext.window={2 * out} or more")
        self.encoder, self.augment = encoder, augment
        self.positives, self.window, self.permutations = positives, window, permutations
        self.shrinkage, self.hidden, self.out = shrinkage, hidden, out
        self.projector = mlp((encoder.dim, hidden, out), last="no_bias")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """The views, and for each sample the keys (B, permutations) that the batches are sorted by."""
        images = [self.augment(batch.x, ctx.rng) for _ in range(self.positives)]
        return *images, ctx.rng.rand(len(batch.x), self.permutations)

    def before_step(self, ctx: Context) -> None:
        if (rows := ctx.length.batch_size) <= self.out:
            fewer = max(1, rows // 2)
            raise ValueError(
                f"{rows} rows cannot whiten {self.out} dimensions; type batch_size={2 * self.out} or more, or "
                f"pretext.out={fewer}"
            )

    def forward(self, views: tuple, group: str = "main") -> Loss:
        *images, keys = views
        z = self.projector(torch.cat([self.encoder(view).pooled for view in images])).float()  # (d B, out)
        with torch.autocast(z.device.type, enabled=False):
            rows = gather(z.unflatten(0, (len(images), -1)).transpose(0, 1))  # (n, d, out), n = B * ranks
            if torch.is_grad_enabled() and len(rows) <= self.out:
                given = f"micro-batches of {len(rows)} rows cannot whiten {self.out} dimensions"
                remedy = f"accumulate=1 or a larger batch_size, or pretext.out={max(1, len(rows) // 2)}"
                raise ValueError(f"{given}; type {remedy}")
            order = gather(keys).argsort(dim=0, stable=True)  # (n, permutations)
            window = min(self.window, len(rows))
            whole = order[: len(rows) // window * window].unflatten(0, (-1, window))  # (batches, window, permutations)
            v = cholesky_whitening(rows[whole].movedim(1, 3), self.shrinkage)  # (batches, permutations, d, window, out)
            v = F.normalize(v, dim=-1).movedim(2, 0)
            cosine = torch.stack([(one * other).sum(dim=-1).mean() for one, other in combinations(v, 2)]).mean()
            value = 2 - 2 * cosine  # the mean squared distance of unit vectors, in [0, 4]
        return Loss(value, {"cosine": cosine.detach()}, z)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.window < 2 * self.out:
            cause = f"pretext.window={self.window} rows estimate the covariance of {self.out} dimensions badly"
            suspects.append(Suspect(cause, f"pretext.window={4 * self.out}", 0.5))
        if self.shrinkage > 0.1:
            cause = f"pretext.shrinkage={self.shrinkage:g}, embeddings are hardly whitened"
            suspects.append(Suspect(cause, "pretext.shrinkage=0.0001", 0.4 + 0.5 * self.shrinkage))
        return suspects
