"""Visual codes of image patches by k-means: each patch is the number of its nearest centroid.

Of pixels, fitted once before training (BEiT). Codes that move with an encoder while it learns: codebook.py.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Rng
from ssl_runner.layers.k_means import k_means, nearest


class PatchCodes(nn.Module):
    """Numbers patches of `dim` numbers from 0 to `count` - 1; similar ones have one number.

    Spherical k-means on patches with one more number, `level`, beside theirs: patches of low contrast are then told
    apart by their difference, and others by their direction. Without it flat patches would be told apart by noise.
    Until `fit` the centroids are random.
    """

    centroids: Tensor

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.level = dim**0.5 / 2  # of patches of unit variance: half their usual length
        self.register_buffer("centroids", F.normalize(torch.randn(count, dim + 1), dim=1))

    @torch.no_grad()
    def fit(self, patches: Float[Tensor, "n d"], iterations: int, rng: Rng) -> None:
        self.centroids.copy_(k_means(self.lifted(patches), len(self.centroids), iterations, rng)[0])

    @torch.no_grad()
    def forward(self, patches: Float[Tensor, "b n d"]) -> Int[Tensor, "b n"]:
        return nearest(self.lifted(patches).flatten(0, 1), self.centroids).view(patches.shape[:2])

    def lifted(self, patches: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        return F.normalize(F.pad(patches.float(), (0, 1), value=self.level), dim=-1)

    def patches(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """The patch that each code stands for."""
        centroids = self.centroids[codes]
        return centroids[..., :-1] / centroids[..., -1:].clamp(min=0.1) * self.level
