"""Geometry of views: exact flips and right-angle turns; crop, tilt and resize as one resampling.

Every function takes one parameter a sample. Coordinates are those of `torch.nn.functional.affine_grid` with
align_corners=False: -1 and 1 are the outer edges of the picture, x points right, y points down.
"""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def rot90(x: Float[Tensor, "b c n n"], turns: Int[Tensor, " b"]) -> Float[Tensor, "b c n n"]:
    """Turns each square image counter-clockwise by its number of quarter turns, moving pixels and changing none.

    Do it after all resampling: a network can tell the direction in which a rotated picture was interpolated.
    """
    n = x.shape[-1]
    raster = torch.arange(n * n, device=x.device).view(n, n)
    turned = torch.stack([raster.rot90(k) for k in range(4)])  # (4, N, N)
    return _rearrange(x, turned.flatten(1)[turns % 4])


def flip(
    x: Float[Tensor, "b c h w"], horizontal: Bool[Tensor, " b"] | None, vertical: Bool[Tensor, " b"] | None
) -> Float[Tensor, "b c h w"]:
    """Mirrors the chosen images left to right, top to bottom or both, moving pixels and changing none."""
    h, w = x.shape[-2:]
    none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    kind = (none if horizontal is None else horizontal) + 2 * (none if vertical is None else vertical)
    raster = torch.arange(h * w, device=x.device).view(h, w)
    mirrored = torch.stack([raster, raster.flip(1), raster.flip(0), raster.flip(0, 1)])  # (4, H, W)
    return _rearrange(x, mirrored.flatten(1)[kind])


def _rearrange(x: Float[Tensor, "b c h w"], source: Int[Tensor, "b hw"]) -> Float[Tensor, "b c h w"]:
    """One gather whatever the mixture of choices: masked indexing would wait for the device to count the mask."""
    return x.flatten(2).gather(2, source[:, None].expand(-1, x.shape[1], -1)).view_as(x)


def crop_matrix(
    top: Float[Tensor, " b"],
    left: Float[Tensor, " b"],
    height: Float[Tensor, " b"],
    width: Float[Tensor, " b"],
    flip: Bool[Tensor, " b"] | None = None,
    vertical_flip: Bool[Tensor, " b"] | None = None,
    angle: Float[Tensor, " b"] | None = None,
    aspect: float = 1.0,
) -> Float[Tensor, "b 2 3"]:
    """The map from a view's coordinates to the image's: the view is the crop, then tilted, then flipped.

    top, left, height, width: the crop in shares of the image, in [0, 1].
    angle: radians, counter-clockwise, about the crop's centre; at the corners the image around the crop comes in.
    aspect: width over height of the view in pixels, so that a tilt of a view that is not square does not shear it.
    """
    zero = torch.zeros_like(width)
    # A flip is the view's last operation and so the coordinates' first: it turns the sign of a column, not of a row.
    across = width if flip is None else torch.where(flip, -width, width)
    down = height if vertical_flip is None else torch.where(vertical_flip, -height, height)
    x, y = (across, zero), (zero, down)
    if angle is not None:
        cos, sin = angle.cos(), angle.sin()
        rise = 1 if vertical_flip is None else torch.where(vertical_flip, -1.0, 1.0)
        run = 1 if flip is None else torch.where(flip, -1.0, 1.0)
        x = (across * cos, -width * sin / aspect * rise)
        y = (height * sin * aspect * run, down * cos)
    centre = (torch.add(width, left, alpha=2) - 1, torch.add(height, top, alpha=2) - 1)
    return torch.stack([*x, centre[0], *y, centre[1]], 1).view(-1, 2, 3)


def cell_centres(matrix: Float[Tensor, "b 2 3"], grid: tuple[int, int]) -> Float[Tensor, "b n 2"]:
    """Where the centres of the cells of a view's grid (height, width), in raster order, lie in the image, as (x, y)."""
    down, across = (torch.arange(1 - n, n, 2, device=matrix.device) / n for n in grid)
    centres = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).view(-1, 1, 2)  # (n, 1, 2)
    # Not a product of matrices, see `resample`.
    return (matrix[:, None, :, :2] * centres).sum(-1) + matrix[:, None, :, 2]


def resample(
    x: Float[Tensor, "b c h w"],
    matrix: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
    edge: Literal["reflection", "border"] = "reflection",
) -> Float[Tensor, "b c h2 w2"]:
    """Reads each image once where its matrix says, as a view of `size` (height, width).

    Past the edges the image is reflected, so that a tilt leaves no black corner to be recognised by; a crop within the
    image that is not tilted reads at most half a pixel past them; edge="border" then comes to the same and is faster.
    If the image is larger than the view by a factor of 1.5 or more, several points a pixel are read and averaged
    against aliasing; a crop that is not larger than the view stays as sharp as it is.

    Differs: from cropping first, in that a view's outermost pixels are blended with what lies just outside the crop.
    """
    (height, width), (h, w) = x.shape[2:], size
    points = 1 if mode == "nearest" else max(1, int(max(height / h, width / w) + 0.5))
    across, down = _centres(w, x.device), _centres(h, x.device)
    entry = matrix[..., None, None]  # (B, 2, 3, 1, 1)
    if points > 1:
        # The image's pixels from one of the view to the next, n: the points cover n - 1 of them, and each reads one.
        pixels = (matrix[:, 0, :2] * width).hypot(matrix[:, 1, :2] * height)  # (B, 2) by the view's width and height
        covers = [1 - 1 / (pixels[:, i] / n).clamp(min=1) for i, n in enumerate((w, h))]
        spread = torch.linspace(-1, 1, points, device=x.device, dtype=x.dtype)
        across = (across[:, None] + covers[0].view(-1, 1, 1) / w * spread).flatten(1)[:, None, None]  # (B, 1, 1, W P)
        down = (down[:, None] + covers[1].view(-1, 1, 1) / h * spread).flatten(1)[:, None]  # (B, 1, H P)
    # By hand and not by affine_grid: that one multiplies matrices, in TF32 if it is allowed, and displaces pixels.
    grid = torch.addcmul(entry[:, :, 2], entry[:, :, 1], down[..., None])  # (B, 2, H P, 1)
    grid = (entry[:, :, 0] * across + grid).permute(0, 2, 3, 1)  # (B, H P, W P, 2)
    view = F.grid_sample(x, grid, mode=mode, padding_mode=edge, align_corners=False)
    return view if points == 1 else F.avg_pool2d(view, points)


@lru_cache(maxsize=16)
def _centres(n: int, device: torch.device) -> Float[Tensor, " n"]:
    """Coordinates of the centres of n pixels between the edges -1 and 1."""
    return torch.arange(1 - n, n, 2, device=device, dtype=torch.float32) / n
