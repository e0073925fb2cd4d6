"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the mean over the views; equation 6 sums them.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.loss.embedding import branches


def covariance_off_diagonal(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The squared covariances of different dimensions, summed and divided by the number of dimensions."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)  # (d, d), equation 3
    itself = torch.eye(len(covariance), dtype=torch.bool, device=z.device)
    return covariance.masked_fill(itself, 0.0).square().sum() / len(covariance)  # equation 4


class Covariance(Regulariser):
    """`weight` times the squared off-diagonal covariance: the embedding's dimensions must not repeat one another.

    The embedding is (B', D), B' = views * B rows, view after view; each view is measured alone. It does not keep the
    embedding from collapsing; combine it with `variance` (the paper's ratio is 1 to 25). Raises ValueError if the
    method has no embedding.
    """

    def __init__(self, *, weight: Annotated[float, Ge(0)] = 0.04, views: Annotated[int, Ge(1)] = 2):
        super().__init__()
        self.weight = weight
        self.views = views

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        terms = [covariance_off_diagonal(z) for z in branches(loss, self.views, "covariance")]
        return {"covariance": self.weight * torch.stack(terms).mean()}
