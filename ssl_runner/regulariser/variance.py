"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the mean over the views; equation 6 sums them.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.loss.embedding import branches


def variance_hinge(z: Float[Tensor, "n d"], target: float) -> Float[Tensor, ""]:
    """How far the standard deviation of each dimension over the rows falls short of `target`, on average."""
    std = (z.var(dim=0) + 1e-4).sqrt()  # equation 2; its epsilon keeps the gradient finite if all rows are equal
    return (target - std).relu().mean()  # equation 1


class Variance(Regulariser):
    """`weight` times the hinge on each dimension's standard deviation: the embedding must not collapse.

    The embedding is (B', D), B' = views * B rows, view after view; each view is measured alone. `target` is the least
    standard deviation, in units of the embedding. Raises ValueError if the method has no embedding.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, Ge(0)] = 1.0,
        target: Annotated[float, Gt(0)] = 1.0,
        views: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__()
        self.weight = weight
        self.target = target
        self.views = views

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        terms = [variance_hinge(z, self.target) for z in branches(loss, self.views, "variance")]
        return {"variance": self.weight * torch.stack(terms).mean()}
