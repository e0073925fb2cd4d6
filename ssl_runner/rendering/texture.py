"""Background textures: gradient, stripes, checks, dots, clouds. Rotated at random, none has a preferred direction."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.rendering.canvas import Plane, over_pixels

TEXTURES = ("gradient", "stripes", "checks", "dots", "clouds")


def texture_share(
    u: Plane,
    v: Plane,
    *,
    texture: Int[Tensor, " b"],
    period: Float[Tensor, " b"],
    phase: Float[Tensor, "b 2"],
    clouds: Float[Tensor, "b k k"],
) -> Plane:
    """Share of the second of two colours, in [0, 1].

    u, v: coordinates along and across the texture, in sides of the image. texture: position in TEXTURES.
    Stripes, checks and dots repeat with a period in sides of the image and a phase in periods; clouds are a coarse
    grid of numbers in [0, 1], which does not follow u and v.
    """
    a = triangle_wave(u / over_pixels(period) + over_pixels(phase[:, 0]))
    b = triangle_wave(v / over_pixels(period) + over_pixels(phase[:, 1]))
    stripes, across = ((a - 0.5) * 4 + 0.5).clamp(0, 1), ((b - 0.5) * 4 + 0.5).clamp(0, 1)
    dots = ((0.6 - (a * a + b * b).sqrt()) * 4).clamp(0, 1)
    checks = stripes + across - 2 * stripes * across
    share = torch.zeros_like(u)
    for number, field in enumerate((u + 0.5, stripes, checks, dots, upsample(clouds, u.shape[-1]))):
        share = torch.where(over_pixels(texture) == number, field, share)
    return share.clamp(0, 1)


def triangle_wave(turns: Plane) -> Plane:
    """A triangle wave of period 1 in [0, 1]."""
    return 2 * (turns - turns.floor() - 0.5).abs()


def upsample(grid: Float[Tensor, "b k k"], side: int) -> Float[Tensor, "b side side"]:
    """The grid interpolated linearly, from the outermost pixel to the outermost."""
    k = grid.shape[-1]
    place = torch.arange(side) * ((k - 1) / (side - 1))
    hat = (1 - (place[:, None] - torch.arange(k)).abs()).clamp(0, 1)  # (side, k)
    lines = sum(grid[:, i, None, :] * hat[:, i, None] for i in range(k))  # (b, side, k)
    return sum(lines[:, :, i, None] * hat[:, i] for i in range(k))  # (b, side, side)
