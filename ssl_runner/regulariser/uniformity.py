"""Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere.

Tongzhou Wang, Phillip Isola. ICML 2020, arXiv 2005.10242.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.loss.embedding import EmbeddingTerm, unit


class Uniformity(EmbeddingTerm):
    """`weight` times the log of the mean Gaussian potential of the embedding's directions: they must fill the sphere.

    `t` is how sharply nearness is felt, in 1 / squared distance of unit vectors.
    """

    name = "uniformity"

    def __init__(self, *, weight: NotNegative = 1.0, t: Positive = 2.0, views: Count | None = None):
        super().__init__(weight, views)
        self.t = t

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """Log of the mean of exp(-t ||u - v||²) over pairs of unit rows, in [-4t, 0]; 0 if all rows are equal."""
        z = unit(z)
        length = z.square().sum(dim=1)
        squared = (length[:, None] + length[None, :] - 2 * z @ z.T).clamp(min=0)  # (n, n); no root: no gradient of 1/0
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        potential = (-self.t * squared).masked_fill(itself, -torch.inf)
        return potential.flatten().logsumexp(dim=0) - math.log(len(z) * (len(z) - 1))  # section 4.1.2, L_uniform
