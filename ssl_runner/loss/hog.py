"""Histograms of oriented gradients (HOG), in plain tensor operations.

Navneet Dalal, Bill Triggs. Histograms of Oriented Gradients for Human Detection, CVPR 2005.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def orientation_votes(x: Float[Tensor, "b c h w"], bins: int) -> Float[Tensor, "b c {bins} h w"]:
    """The length of the gradient at each pixel, by its direction without sign, in `bins` of 180 / bins degrees.

    Bin k is centred at k · 180 / bins degrees, from left to right at 0 and downwards at 90; a pixel's vote is shared
    between the two nearest. Gradients are differences of the neighbours on both sides; the border is repeated.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]  # (B, C, H, W)
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    position = torch.atan2(down, across) * (bins / math.pi)  # in [-bins, bins]
    centre = torch.arange(bins, dtype=x.dtype, device=x.device).view(-1, 1, 1)
    distance = ((position[:, :, None] - centre + bins / 2) % bins - bins / 2).abs()  # around the circle
    return (1 - distance).clamp(min=0) * torch.hypot(across, down)[:, :, None]


def hog(
    x: Float[Tensor, "b c h w"], grid: tuple[int, int], cell: int, bins: int, epsilon: float = 1e-6
) -> Float[Tensor, "b n d"]:
    """A histogram of unit length for each channel of each cell of cell x cell pixels, all of a patch side by side.

    grid: rows and columns of patches; n is their product, and a patch is some whole cells high and wide. A cell whose
    pixels are all alike has a histogram of zeros. d = cells of a patch * c * bins.
    epsilon: a histogram v, of mean gradients of a pixel, becomes v / sqrt(|v|^2 + epsilon^2), L2-norm in the paper: one
    that is much shorter, of noise, becomes short and not 1.
    """
    votes = F.avg_pool2d(orientation_votes(x, bins).flatten(1, 2), cell)  # (B, C * bins, rows of cells, columns)
    votes = votes.unflatten(1, (-1, bins))  # (B, C, bins, rows, columns)
    histograms = votes / (votes.square().sum(dim=2, keepdim=True) + epsilon**2).sqrt()
    cells = histograms.unflatten(4, (grid[1], -1)).unflatten(
        3, (grid[0], -1)
    )  # (B, C, bins, rows, tall, columns, wide)
    return cells.permute(0, 3, 5, 4, 6, 1, 2).flatten(3).flatten(1, 2)
