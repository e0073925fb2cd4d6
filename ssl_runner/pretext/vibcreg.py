"""VIbCReg: Variance-Invariance-better-Covariance Regularization for Self-Supervised Learning on Time Series.

Daesoo Lee, Erlend Aune. 2021, arXiv 2109.00783. On images, as VICReg is.

Differs: iterative normalisation has a scale and no shift, on which no term depends; it keeps no running statistics,
since the projector is not used after training. The defaults suit small images and short runs (a projector of 512 in 16
groups). Statistics are those of a micro-batch, of all ranks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.covariance import correlation, off_diagonal, variance_cost
from ssl_runner.loss.whitening import iterative_whitening


class VIbCReg(Pretext):
    """Brings two views together, while dimensions, whitened in groups, keep their variance and do not correlate.

    `invariance`, `variance` and `covariance` are the weights of the three terms; the last is of correlations, which do
    not change with the scale of a dimension. `hidden` and `out` are the widths of the projector, which is thrown away;
    its output is whitened in `norm_groups` groups of dimensions by `norm_iterations` of Newton's method.
    Raises ValueError if `out` is not a multiple of `norm_groups`.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        invariance: NotNegative = 25.0,
        variance: NotNegative = 25.0,
        covariance: NotNegative = 200.0,
        hidden: Count = 512,
        out: Count = 512,
        norm_groups: Count = 16,
        norm_iterations: Count = 5,
    ):
        super().__init__()
        if out % norm_groups:
            fit = max(each for each in range(1, norm_groups) if out % each == 0)
            raise ValueError(
                f"{out} dimensions cannot be parted in {norm_groups} groups; type pretext.norm_groups={fit}"
            )
        self.encoder, self.augment = encoder, augment
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.hidden, self.out, self.norm_groups, self.norm_iterations = hidden, out, norm_groups, norm_iterations
        self.projector = mlp((encoder.dim, hidden, hidden, out), last="no_bias")
        self.scale = nn.Parameter(torch.ones(out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no variance; raise batch_size or lower accumulate")
        projections = [self.projector(self.encoder(view).pooled).float() for view in views]  # each (B, out)
        with torch.autocast(projections[0].device.type, enabled=False):
            z, z_prime = (
                iterative_whitening(gather(each), self.norm_groups, self.norm_iterations) * self.scale
                for each in projections
            )  # each (B * ranks, out)
            terms = {
                "invariance": F.mse_loss(z, z_prime),
                "variance": variance_cost(z) + variance_cost(z_prime),
                "covariance": sum(off_diagonal(correlation(each)).square().mean() for each in (z, z_prime)),
            }
            value = torch.stack([getattr(self, name) * term for name, term in terms.items()]).sum()
        # The embedding is what is whitened: afterwards its dimensions could not be seen to collapse.
        return Loss(value, {name: term.detach() for name, term in terms.items()}, torch.cat(projections))

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.variance < 0.2 * self.invariance:
            cause = f"pretext.variance={self.variance:g} is too little beside pretext.invariance={self.invariance:g}"
            suspects.append(Suspect(cause, f"pretext.variance={self.invariance:g}", 0.5 if self.variance else 0.9))
        if not self.covariance:
            cause = "pretext.covariance=0, dimensions of different groups may repeat one another"
            suspects.append(Suspect(cause, "pretext.covariance=200", 0.5))
        return suspects
