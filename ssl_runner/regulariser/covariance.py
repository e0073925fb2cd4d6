"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the mean over the views; equation 6 sums them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.embedding import EmbeddingTerm


class Covariance(EmbeddingTerm):
    """`weight` times the squared off-diagonal covariance: the embedding's dimensions must not repeat one another.

    It does not keep the embedding from collapsing; combine it with `variance` (the paper's ratio is 1 to 25).
    """

    name = "covariance"

    def __init__(self, *, weight: NotNegative = 0.04, views: Count = 2):
        super().__init__(weight, views)

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The squared covariances of different dimensions, summed and divided by the number of dimensions."""
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (len(z) - 1)  # (d, d), equation 3
        itself = torch.eye(len(covariance), dtype=torch.bool, device=z.device)
        return covariance.masked_fill(itself, 0.0).square().sum() / len(covariance)  # equation 4
