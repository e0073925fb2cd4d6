"""Rotated coordinates, colours, waves and clouds: what scenes are drawn with.

Pixels are made of sums, products, quotients, square roots and comparisons alone, one element at a time, and sines are
taken in float64 of one number an image: the bytes do not depend on the number of threads.
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor

Plane = Float[Tensor, "b h w"]  # a number a pixel; coordinates x and y are planes, y pointing up
Colour = Float[Tensor, "b 3 #h #w"]  # one an image, or one a pixel
Numbers = Float[Tensor, "*n"]


def over_pixels(number: Num[Tensor, " b"]) -> Num[Tensor, "b 1 1"]:
    """A number an image, to be broadcast over a plane."""
    return number[:, None, None]


def rotate(x: Plane, y: Plane, degrees: Float[Tensor, " b"]) -> tuple[Plane, Plane]:
    """Coordinates in a frame that is rotated counter-clockwise."""
    angle = torch.deg2rad(degrees.double())
    c, s = over_pixels(angle.cos().float()), over_pixels(angle.sin().float())
    return x * c + y * s, y * c - x * s


def blend(below: Colour, above: Colour, share: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """One colour over another: all of it if its share is 1."""
    return below + (above - below) * share


def to_rgb(lightness: Numbers, hue: Numbers, chroma: Numbers) -> Float[Tensor, "*n 3"]:
    """RGB of about the given lightness in [0, 1]; hue in turns, chroma a distance from grey."""
    angle = 2 * math.pi * hue.double()
    shift = torch.stack([(angle - 2 * math.pi * k / 3).cos() for k in range(3)], -1).float()
    return (lightness[..., None] + chroma[..., None] * shift).clamp(0, 1)


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
