"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Adrien Bardes, Jean Ponce, Yann LeCun. ICLR 2022, arXiv 2105.04906.

Differs: the mean over the views; equation 6 sums them.
"""

from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.loss.covariance import variance_cost
from ssl_runner.loss.embedding import EmbeddingTerm


class Variance(EmbeddingTerm):
    """`weight` times the hinge on each dimension's standard deviation: the embedding must not collapse.

    `target` is the least standard deviation, in units of the embedding.
    """

    name = "variance"

    def __init__(self, *, weight: NotNegative = 1.0, target: Positive = 1.0, views: Count | None = None):
        super().__init__(weight, views)
        self.target = target

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        return variance_cost(z, self.target)
