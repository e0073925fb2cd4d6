"""Outlines of ten pictograms in the unit disc, none of which is another one or itself rotated.

An outline is a signed distance function: of the coordinates of each pixel it gives the distance to an edge, negative
inside. Those here are put together from discs, boxes and convex polygons.
"""

import math
from collections.abc import Callable
from functools import reduce

import torch

from ssl_runner.rendering.canvas import Plane

Outline = Callable[[Plane, Plane], Plane]
Point = tuple[float, float]


def disc(cx: float, cy: float, r: float) -> Outline:
    return lambda x, y: ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() - r


def box(cx: float, cy: float, half_width: float, half_height: float) -> Outline:
    return lambda x, y: torch.maximum((x - cx).abs() - half_width, (y - cy).abs() - half_height)


def half_plane(start: Point, end: Point) -> Outline:
    """What lies to the left on the way from one point to another."""
    (ax, ay), (bx, by) = start, end
    length = math.hypot(bx - ax, by - ay)
    return lambda x, y: (x - ax) * ((by - ay) / length) - (y - ay) * ((bx - ax) / length)


def convex(*corners: Point) -> Outline:
    """A convex polygon, its corners counter-clockwise."""
    return intersection(*map(half_plane, corners, (*corners[1:], corners[0])))


def union(*outlines: Outline) -> Outline:
    return lambda x, y: reduce(torch.minimum, (outline(x, y) for outline in outlines))


def intersection(*outlines: Outline) -> Outline:
    return lambda x, y: reduce(torch.maximum, (outline(x, y) for outline in outlines))


def difference(outline: Outline, hole: Outline) -> Outline:
    return lambda x, y: torch.maximum(outline(x, y), -hole(x, y))


OUTLINES: dict[str, Outline] = {
    "arrow": union(box(-0.35, 0.0, 0.6, 0.22), convex((0.05, -0.75), (0.95, 0.0), (0.05, 0.75))),
    "boat": union(
        convex((-0.95, -0.3), (-0.55, -0.8), (0.55, -0.8), (0.95, -0.3)),
        convex((-0.65, -0.12), (-0.12, -0.12), (-0.12, 0.6)),
        convex((0.04, -0.12), (0.85, -0.12), (0.04, 0.95)),
    ),
    "crescent": difference(disc(-0.05, 0.0, 0.9), disc(0.37, 0.0, 0.68)),
    "fish": difference(
        union(
            intersection(disc(-0.25, -0.55, 0.98), disc(-0.25, 0.55, 0.98)),
            convex((0.3, 0.0), (0.95, -0.5), (0.95, 0.5)),
        ),
        disc(-0.62, 0.08, 0.12),
    ),
    "heart": union(
        disc(-0.45, 0.37, 0.48), disc(0.45, 0.37, 0.48), convex((-0.86, 0.1), (0.0, -0.9), (0.86, 0.1), (0.0, 0.6))
    ),
    "house": union(
        difference(box(0.0, -0.4, 0.65, 0.5), box(-0.2, -0.65, 0.17, 0.3)),
        convex((-0.95, 0.0), (0.95, 0.0), (0.0, 0.9)),
        box(0.52, 0.5, 0.14, 0.38),
    ),
    "key": union(
        difference(disc(-0.5, 0.05, 0.46), disc(-0.5, 0.05, 0.2)),
        *(box(0.42, 0.05, 0.52, 0.14), box(0.82, -0.2, 0.12, 0.28), box(0.4, -0.16, 0.1, 0.24)),
    ),
    "mug": union(box(-0.2, 0.0, 0.56, 0.72), difference(disc(0.42, 0.05, 0.47), disc(0.42, 0.05, 0.23))),
    "mushroom": union(
        intersection(disc(0.0, -0.1, 0.92), half_plane((0.0, 0.02), (1.0, 0.02))), box(0.0, -0.4, 0.27, 0.46)
    ),
    "tree": union(
        convex((-0.6, 0.12), (0.6, 0.12), (0.0, 0.98)),
        convex((-0.85, -0.55), (0.85, -0.55), (0.0, 0.55)),
        box(0.0, -0.72, 0.16, 0.24),
    ),
}
