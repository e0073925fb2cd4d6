"""Signed distances to outlines, rotated coordinates and colours: what scenes are drawn with.

An outline is the distance of each pixel to its edge, negative inside. Pixels are made of sums, products, quotients,
square roots and comparisons alone, one element at a time, and sines are taken in float64 of one number an image: the
bytes do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from jaxtyping import Float, Num
from torch import Tensor

Plane = Float[Tensor, "b h w"]  # a number a pixel; coordinates x and y are planes, y pointing up


def over_pixels(number: Num[Tensor, " b"]) -> Num[Tensor, "b 1 1"]:
    """A number an image, to be broadcast over a plane."""
    return number[:, None, None]


def rotate(x: Plane, y: Plane, degrees: Float[Tensor, " b"]) -> tuple[Plane, Plane]:
    """Coordinates in a frame that is rotated counter-clockwise."""
    angle = torch.deg2rad(degrees.double())
    c, s = over_pixels(angle.cos().float()), over_pixels(angle.sin().float())
    return x * c + y * s, y * c - x * s


def disc(x: Plane, y: Plane, cx: float, cy: float, r: float) -> Plane:
    return ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() - r


def box(x: Plane, y: Plane, cx: float, cy: float, half_width: float, half_height: float) -> Plane:
    return torch.maximum((x - cx).abs() - half_width, (y - cy).abs() - half_height)


def convex(x: Plane, y: Plane, *corners: tuple[float, float]) -> Plane:
    """A convex polygon, its corners counter-clockwise."""
    edges = []
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = math.hypot(bx - ax, by - ay)
        edges.append((x - ax) * ((by - ay) / length) - (y - ay) * ((bx - ax) / length))
    return reduce(torch.maximum, edges)


def union(*outlines: Plane) -> Plane:
    return reduce(torch.minimum, outlines)


def subtract(outline: Plane, hole: Plane) -> Plane:
    return torch.maximum(outline, -hole)


def blend(
    below: Float[Tensor, "b 3 #h #w"], above: Float[Tensor, "b 3 #h #w"], share: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """One colour over another: all of it if its share is 1."""
    return below + (above - below) * share


def to_rgb(
    lightness: Float[Tensor, "*n"], hue: Float[Tensor, "*n"], chroma: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 3"]:
    """RGB of about the given lightness in [0, 1]; hue in turns, chroma a distance from grey."""
    angle = 2 * math.pi * hue.double()
    shift = torch.stack([(angle - 2 * math.pi * k / 3).cos() for k in range(3)], -1).float()
    return (lightness[..., None] + chroma[..., None] * shift).clamp(0, 1)
