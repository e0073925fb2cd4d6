"""Holes in images for inpainting: a square in the centre, squares anywhere, or regions of any shape.

After D. Pathak, P. Krähenbühl, J. Donahue, T. Darrell, A. A. Efros, "Context Encoders: Feature Learning by Inpainting",
CVPR 2016, arXiv 1604.07379: holes of any shape leave the encoder no edge to recognise, and teach it the most.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from ssl_runner.contract import Rng

Region = Literal["random", "blocks", "centre"]
BLOCKS = 3


def draw_holes(
    n: int, shape: tuple[int, int], region: Region, share: float, cells: int, rng: Rng
) -> Bool[Tensor, "n h w"]:
    """True where an image of n has a hole, at one pixel at least and never at all of them.

    random: the pixels where noise of cells x cells, enlarged smoothly, is highest; each image has as many.
    blocks: three squares that may overlap, together at most `share` of the image. centre: a square of that size.
    """
    pixels = shape[0] * shape[1]
    if region == "random":
        noise = rng.rand(n, 1, cells, cells)
        smooth = F.interpolate(noise, shape, mode="bicubic", align_corners=False).flatten(1)
        count = min(max(1, round(share * pixels)), pixels - 1)
        hole = torch.zeros(n, pixels, dtype=torch.bool, device=noise.device)
        return hole.scatter_(1, smooth.topk(count).indices, True).unflatten(1, shape)
    number = BLOCKS if region == "blocks" else 1
    side = min(max(1, round((share * pixels / number) ** 0.5)), min(shape) - 1)
    place = rng.rand(n, number, 2)  # of the room, down and across
    if region == "centre":
        place = torch.full_like(place, 0.5)
    inside = []
    for axis, length in enumerate(shape):
        start = (place[..., axis : axis + 1] * (length - side + 1)).long()  # (n, number, 1)
        distance = torch.arange(length, device=place.device) - start
        inside.append((distance >= 0) & (distance < side))  # (n, number, length)
    return (inside[0][..., None] & inside[1][:, :, None]).any(1)
