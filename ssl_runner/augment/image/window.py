"""Random windows of images by region: the region is a class, which only the layout of a scene tells.

After C. Doersch, A. Gupta, A. A. Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015,
arXiv 1505.05192, section 3.1: jitter each window, so that its class is not given away by where its pixels were sampled.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image.geometry import crop_matrix, resample
from ssl_runner.contract import Rng


def draw_regions(
    count: int, grid: int, size: float, jitter: float, rng: Rng
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Draws a region of the image for each sample: its class, and the top and left of its window.

    The places where a square window of side `size` fits, [0, 1 - size] down and across, fall into grid x grid equal
    bins; the class is the bin, in raster order. The window lies within the middle `jitter` of its bin, uniformly, so
    classes never overlap, and a gap is left between neighbours if jitter < 1. Lengths are shares of the image's
    sides, in [0, 1].
    """
    region = rng.randint(grid * grid, count)
    offset = 0.5 + jitter * (rng.rand(count, 2).T - 0.5)  # of a bin
    bins = torch.stack((region // grid, region % grid))
    top, left = (bins + offset) * ((1 - size) / grid)
    return region, top, left


def cut_regions(
    x: Float[Tensor, "b c h w"], grid: int, size: float, jitter: float, pixels: int | None, rng: Rng
) -> tuple[Float[Tensor, "b c h2 w2"], Int[Tensor, " b"]]:
    """Windows as `draw_regions` draws them, enlarged to `pixels` a side (None: to the image's size); their classes."""
    region, top, left = draw_regions(len(x), grid, size, jitter, rng)
    side = torch.full_like(top, size)
    view = (pixels, pixels) if pixels else (x.shape[2], x.shape[3])
    return resample(x, crop_matrix(top, left, side, side), view, edge="border").clamp_(0, 1), region
