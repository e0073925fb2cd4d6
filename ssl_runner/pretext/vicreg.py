"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the variance term is the mean over the two views, as in the authors' code; equation 6 sums it, so the paper's
weight of 25 would be 50 here. The defaults suit small images (an expander of 512 and not 8192, views of one recipe).
Statistics are those of a micro-batch, of all ranks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.covariance import covariance_cost, variance_cost, weak_terms


class VICReg(Pretext):
    """Brings the two views of a sample together, while each dimension keeps its variance and repeats no other.

    `invariance`, `variance` and `covariance` are the weights of the three terms, lambda, mu and nu in the paper.
    `hidden` and `out` are the widths of the expander, which is thrown away. `augment` and `augment_prime` make the
    first and the second view.
    """

    kinds = ("image", "audio")

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Recipe,
        augment_prime: Recipe,
        invariance: NotNegative = 25.0,
        variance: NotNegative = 25.0,
        covariance: NotNegative = 1.0,
        hidden: Count = 512,
        out: Count = 512,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.hidden, self.out = hidden, out
        self.expander = mlp((encoder.dim, hidden, hidden, out), last="no_bias")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no variance; raise batch_size or lower accumulate")
        z, z_prime = (self.expander(self.encoder(view).pooled).float() for view in views)  # each (B, out)
        with torch.autocast(z.device.type, enabled=False):
            everyone, everyone_prime = gather(z), gather(z_prime)  # (B * ranks, out)
            terms = {
                "invariance": F.mse_loss(z, z_prime),  # equation 5, divided by the width as in the authors' code
                "variance": (variance_cost(everyone) + variance_cost(everyone_prime)) / 2,
                "covariance": covariance_cost(everyone) + covariance_cost(everyone_prime),
            }
            value = torch.stack([getattr(self, name) * term for name, term in terms.items()]).sum()  # equation 6
        return Loss(value, {name: term.detach() for name, term in terms.items()}, torch.cat([z, z_prime]))

    def suspects(self) -> Sequence[Suspect]:
        return weak_terms(self.invariance, self.variance, self.covariance)
