"""Outlines of ten pictograms in the unit disc, none of which is another one or itself rotated."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ssl_runner.rendering.canvas import Plane, box, convex, disc, subtract, union

Outline = Callable[[Plane, Plane], Plane]


def arrow(x: Plane, y: Plane) -> Plane:
    return union(box(x, y, -0.35, 0.0, 0.6, 0.22), convex(x, y, (0.05, -0.75), (0.95, 0.0), (0.05, 0.75)))


def boat(x: Plane, y: Plane) -> Plane:
    hull = convex(x, y, (-0.95, -0.3), (-0.55, -0.8), (0.55, -0.8), (0.95, -0.3))
    jib = convex(x, y, (-0.65, -0.12), (-0.12, -0.12), (-0.12, 0.6))
    return union(hull, jib, convex(x, y, (0.04, -0.12), (0.85, -0.12), (0.04, 0.95)))


def crescent(x: Plane, y: Plane) -> Plane:
    return subtract(disc(x, y, -0.05, 0.0, 0.9), disc(x, y, 0.37, 0.0, 0.68))


def fish(x: Plane, y: Plane) -> Plane:
    body = torch.maximum(disc(x, y, -0.25, -0.55, 0.98), disc(x, y, -0.25, 0.55, 0.98))
    tail = convex(x, y, (0.3, 0.0), (0.95, -0.5), (0.95, 0.5))
    return subtract(union(body, tail), disc(x, y, -0.62, 0.08, 0.12))


def heart(x: Plane, y: Plane) -> Plane:
    point = convex(x, y, (-0.86, 0.1), (0.0, -0.9), (0.86, 0.1), (0.0, 0.6))
    return union(disc(x, y, -0.45, 0.37, 0.48), disc(x, y, 0.45, 0.37, 0.48), point)


def house(x: Plane, y: Plane) -> Plane:
    walls = subtract(box(x, y, 0.0, -0.4, 0.65, 0.5), box(x, y, -0.2, -0.65, 0.17, 0.3))
    return union(walls, convex(x, y, (-0.95, 0.0), (0.95, 0.0), (0.0, 0.9)), box(x, y, 0.52, 0.5, 0.14, 0.38))


def key(x: Plane, y: Plane) -> Plane:
    ring = subtract(disc(x, y, -0.5, 0.05, 0.46), disc(x, y, -0.5, 0.05, 0.2))
    teeth = union(box(x, y, 0.82, -0.2, 0.12, 0.28), box(x, y, 0.4, -0.16, 0.1, 0.24))
    return union(ring, box(x, y, 0.42, 0.05, 0.52, 0.14), teeth)


def mug(x: Plane, y: Plane) -> Plane:
    handle = subtract(disc(x, y, 0.42, 0.05, 0.47), disc(x, y, 0.42, 0.05, 0.23))
    return union(box(x, y, -0.2, 0.0, 0.56, 0.72), handle)


def mushroom(x: Plane, y: Plane) -> Plane:
    cap = torch.maximum(disc(x, y, 0.0, -0.1, 0.92), 0.02 - y)
    return union(cap, box(x, y, 0.0, -0.4, 0.27, 0.46))


def tree(x: Plane, y: Plane) -> Plane:
    top = convex(x, y, (-0.6, 0.12), (0.6, 0.12), (0.0, 0.98))
    return union(top, convex(x, y, (-0.85, -0.55), (0.85, -0.55), (0.0, 0.55)), box(x, y, 0.0, -0.72, 0.16, 0.24))


OUTLINES: dict[str, Outline] = {
    outline.__name__: outline for outline in (arrow, boat, crescent, fish, heart, house, key, mug, mushroom, tree)
}
