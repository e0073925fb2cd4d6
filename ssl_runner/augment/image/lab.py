"""Lab colours (CIELAB, white point D65) of sRGB images, images of Lab colours, and bins of the (a, b) plane.

L in [0, 100] is lightness; a runs from green to red, b from blue to yellow, each within about 110 of grey, which is 0.
IEC 61966-2-1 for sRGB, CIE 15 for Lab.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import column

XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
RGB = tuple(map(tuple, torch.tensor(XYZ, dtype=torch.float64).inverse().tolist()))
WHITE = tuple(map(sum, XYZ))
KNEE = 6 / 29  # below its cube the cube root is a line
LEVELS = 64  # of each channel, to see which bins colours fall in


def product(rows: tuple[tuple[float, ...], ...], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """A matrix times each pixel, in float32 whatever a matrix product is allowed to be."""
    return torch.stack([(x * column(row, x.device)[..., None]).sum(1) for row in rows], 1)


def rgb_to_lab(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images in [0, 1] as L, a and b."""
    linear = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    ratio = product(XYZ, linear) / column(WHITE, x.device)[..., None]
    root = torch.where(ratio > KNEE**3, ratio.clamp(min=KNEE**3) ** (1 / 3), ratio / (3 * KNEE**2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images of L, a and b, clamped to [0, 1]: colours that sRGB does not have become ones at its border."""
    light, a, b = lab.unbind(1)
    y = (light + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], 1)
    ratio = torch.where(root > KNEE, root**3, 3 * KNEE**2 * (root - 4 / 29))
    linear = product(RGB, ratio * column(WHITE, lab.device)[..., None]).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def colour_bins(side: float) -> Float[Tensor, "q 2"]:
    """Centres of the squares of the (a, b) plane, `side` wide, that an sRGB colour falls in, one of them at grey."""
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)  # float64: in one bin on every machine
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, LEVELS, -1)
    return (rgb_to_lab(colours)[0, 1:].flatten(1).T / side).round().unique(dim=0).float() * side
