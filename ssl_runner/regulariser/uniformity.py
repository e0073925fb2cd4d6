"""Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere.

Tongzhou Wang, Phillip Isola. ICML 2020, arXiv 2005.10242.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.loss.embedding import branches
from ssl_runner.loss.unit import unit


def gaussian_potential(z: Float[Tensor, "n d"], t: float) -> Float[Tensor, ""]:
    """Log of the mean of exp(-t ||u - v||²) over pairs of unit rows, in [-4t, 0]; 0 if all rows are equal."""
    z = unit(z)
    length = z.square().sum(dim=1)
    squared = (length[:, None] + length[None, :] - 2 * z @ z.T).clamp(min=0)  # (n, n); no root, so no gradient of 1/0
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    potential = (-t * squared).masked_fill(itself, -torch.inf)
    return potential.flatten().logsumexp(dim=0) - math.log(len(z) * (len(z) - 1))  # section 4.1.2, L_uniform


class Uniformity(Regulariser):
    """`weight` times the log of the mean Gaussian potential of the embedding's directions: they must fill the sphere.

    The embedding is (B', D), B' = views * B rows, view after view; each view is measured alone, as the paper does.
    `t` is how sharply nearness is felt, in 1 / squared distance of unit vectors. Raises ValueError if the method
    has no embedding.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        t: Annotated[float, Gt(0)] = 2.0,
        views: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__()
        self.weight = weight
        self.t = t
        self.views = views

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        terms = [gaussian_potential(z, self.t) for z in branches(loss, self.views, "uniformity")]
        return {"uniformity": self.weight * torch.stack(terms).mean()}
