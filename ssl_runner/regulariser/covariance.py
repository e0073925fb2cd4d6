"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the mean over the views; equation 6 sums them.
"""

from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.covariance import covariance_cost
from ssl_runner.loss.embedding import EmbeddingTerm


class Covariance(EmbeddingTerm):
    """`weight` times the squared off-diagonal covariance: the embedding's dimensions must not repeat one another.

    It does not keep the embedding from collapsing; combine it with `variance` (the paper's ratio is 1 to 25).
    """

    name = "covariance"

    def __init__(self, *, weight: NotNegative = 0.04, views: Count | None = None):
        super().__init__(weight, views)

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        return covariance_cost(z)
