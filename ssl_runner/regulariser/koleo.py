"""Spreading vectors for similarity search.

Alexandre Sablayrolles, Matthijs Douze, Cordelia Schmid, Hervé Jégou. ICLR 2019, arXiv 1806.03198.
On unit vectors and each view alone, as DINOv2 has it: Maxime Oquab and others. TMLR 2024, arXiv 2304.07193.
"""

from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.embedding import EmbeddingTerm
from ssl_runner.loss.koleo import neighbour_cost


class KoLeo(EmbeddingTerm):
    """`weight` times the Kozachenko-Leonenko estimate of minus the embedding's entropy: neighbours are driven apart.

    Each view is measured alone, since otherwise a sample's nearest row would be its own other view. Invariant to the
    length of the rows.
    """

    name = "koleo"

    def __init__(self, *, weight: NotNegative = 0.1, views: Count | None = None):
        super().__init__(weight, views)

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        return neighbour_cost(z)
