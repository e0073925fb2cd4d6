"""Pictograms rendered by code: ten shapes, each with an up of its own, in free colour, place, size, tilt and scene.

Only the shape tells what is up and which side is left: backgrounds, clutter and shading are drawn alike in all
directions. Which way a shape points differs from class to class, so predicting a rotation takes knowing the class.

A pixel is made of sums, products, quotients, square roots and comparisons alone, one element at a time, and sines are
taken in float64 of one number an image: the bytes do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from ssl_runner.contract import Data, Split
from ssl_runner.parts.split import fingerprint, held_out, statistics, stratified

Plane = Float[Tensor, "b h w"]

TEXTURES = ("gradient", "stripes", "checks", "dots", "clouds")
CLUTTER = 5  # rods of other colours behind the shape
CHUNK = 500  # images drawn at a time


def disc(x: Plane, y: Plane, cx: float, cy: float, r: float) -> Plane:
    """Distance to the edge of a disc, negative inside, as of the other outlines; y points up."""
    return ((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() - r


def box(x: Plane, y: Plane, cx: float, cy: float, half_width: float, half_height: float) -> Plane:
    return torch.maximum((x - cx).abs() - half_width, (y - cy).abs() - half_height)


def convex(x: Plane, y: Plane, *corners: tuple[float, float]) -> Plane:
    """A convex polygon, its corners counter-clockwise."""
    distance = None
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = math.hypot(bx - ax, by - ay)
        edge = (x - ax) * ((by - ay) / length) - (y - ay) * ((bx - ax) / length)
        distance = edge if distance is None else torch.maximum(distance, edge)
    return distance


def union(*outlines: Plane) -> Plane:
    distance = outlines[0]
    for outline in outlines[1:]:
        distance = torch.minimum(distance, outline)
    return distance


def without(outline: Plane, hole: Plane) -> Plane:
    return torch.maximum(outline, -hole)


def arrow(x: Plane, y: Plane) -> Plane:
    return union(box(x, y, -0.35, 0.0, 0.6, 0.22), convex(x, y, (0.05, -0.75), (0.95, 0.0), (0.05, 0.75)))


def boat(x: Plane, y: Plane) -> Plane:
    hull = convex(x, y, (-0.95, -0.3), (-0.55, -0.8), (0.55, -0.8), (0.95, -0.3))
    jib = convex(x, y, (-0.65, -0.12), (-0.12, -0.12), (-0.12, 0.6))
    return union(hull, jib, convex(x, y, (0.04, -0.12), (0.85, -0.12), (0.04, 0.95)))


def crescent(x: Plane, y: Plane) -> Plane:
    return without(disc(x, y, -0.05, 0.0, 0.9), disc(x, y, 0.37, 0.0, 0.68))


def fish(x: Plane, y: Plane) -> Plane:
    body = torch.maximum(disc(x, y, -0.25, -0.55, 0.98), disc(x, y, -0.25, 0.55, 0.98))
    tail = convex(x, y, (0.3, 0.0), (0.95, -0.5), (0.95, 0.5))
    return without(union(body, tail), disc(x, y, -0.62, 0.08, 0.12))


def heart(x: Plane, y: Plane) -> Plane:
    point = convex(x, y, (-0.86, 0.1), (0.0, -0.9), (0.86, 0.1), (0.0, 0.6))
    return union(disc(x, y, -0.45, 0.37, 0.48), disc(x, y, 0.45, 0.37, 0.48), point)


def house(x: Plane, y: Plane) -> Plane:
    walls = without(box(x, y, 0.0, -0.4, 0.65, 0.5), box(x, y, -0.2, -0.65, 0.17, 0.3))
    return union(walls, convex(x, y, (-0.95, 0.0), (0.95, 0.0), (0.0, 0.9)), box(x, y, 0.52, 0.5, 0.14, 0.38))


def key(x: Plane, y: Plane) -> Plane:
    ring = without(disc(x, y, -0.5, 0.05, 0.46), disc(x, y, -0.5, 0.05, 0.2))
    teeth = union(box(x, y, 0.82, -0.2, 0.12, 0.28), box(x, y, 0.4, -0.16, 0.1, 0.24))
    return union(ring, box(x, y, 0.42, 0.05, 0.52, 0.14), teeth)


def mug(x: Plane, y: Plane) -> Plane:
    handle = without(disc(x, y, 0.42, 0.05, 0.47), disc(x, y, 0.42, 0.05, 0.23))
    return union(box(x, y, -0.2, 0.0, 0.56, 0.72), handle)


def mushroom(x: Plane, y: Plane) -> Plane:
    cap = torch.maximum(disc(x, y, 0.0, -0.1, 0.92), 0.02 - y)
    return union(cap, box(x, y, 0.0, -0.4, 0.27, 0.46))


def tree(x: Plane, y: Plane) -> Plane:
    top = convex(x, y, (-0.6, 0.12), (0.6, 0.12), (0.0, 0.98))
    return union(top, convex(x, y, (-0.85, -0.55), (0.85, -0.55), (0.0, 0.55)), box(x, y, 0.0, -0.72, 0.16, 0.24))


OUTLINES: dict[str, Callable[[Plane, Plane], Plane]] = {
    outline.__name__: outline for outline in (arrow, boat, crescent, fish, heart, house, key, mug, mushroom, tree)
}


class Scene:
    """The causes of n images, drawn one after another from a generator, and the images that they cause."""

    def __init__(self, n: int, size: int, rng: torch.Generator):
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=rng) * (high - low) + low

        self.side, self.rng = size, rng
        self.shape = (torch.arange(n) % len(OUTLINES))[torch.randperm(n, generator=rng)]
        self.radius = uniform(0.22, 0.36)  # in sides of the image, as x and y
        room = 0.48 - self.radius  # the shape lies inside
        self.x, self.y = uniform(-1.0, 1.0) * room, uniform(-1.0, 1.0) * room  # of its centre, from the image's; y up
        self.tilt = uniform(-20.0, 20.0)  # degrees counter-clockwise
        self.texture = torch.randint(len(TEXTURES), (n,), generator=rng)
        self.direction, self.shading = uniform(0.0, 360.0), uniform(0.0, 360.0)  # degrees, of texture and of shading
        self.period = uniform(0.14, 0.4)  # sides of the image
        self.phase = uniform(0.0, 1.0, 2)
        self.clouds = uniform(0.0, 1.0, 5, 5)
        # A shape is lighter than its background or darker, as often the one as the other.
        dark = torch.rand(n, generator=rng) < 0.5
        near, far = uniform(0.66, 0.9), uniform(0.14, 0.38)
        self.hue = uniform(0.0, 1.0)
        self.colour = tint(torch.where(dark, far, near), self.hue, uniform(0.1, 0.3))
        light = torch.where(dark, near, far)
        self.background = torch.stack(  # (n, 2, 3)
            [tint(light + uniform(-0.1, 0.1), uniform(0.0, 1.0), uniform(0.05, 0.25)) for _ in range(2)], 1
        )
        self.rods = uniform(-0.5, 0.5, CLUTTER, 2)
        self.reach = uniform(0.0, 0.14, CLUTTER)  # half a rod's length
        self.bend = uniform(0.0, 360.0, CLUTTER)
        self.width = uniform(0.015, 0.05, CLUTTER)  # half of it
        self.paint = tint(uniform(0.2, 0.8, CLUTTER), uniform(0.0, 1.0, CLUTTER), uniform(0.05, 0.3, CLUTTER))

    def factors(self) -> dict[str, Tensor]:
        """Known causes by name: (n,) or (n, k). Lengths in sides of the image, tilt in degrees, hue in turns."""
        return {
            "shape": self.shape,
            "colour": self.colour,
            "hue": self.hue,
            "position": torch.stack([self.x, self.y], 1),
            "size": 2 * self.radius,
            "tilt": self.tilt,
            "texture": self.texture,
            "background": self.background.flatten(1),
        }

    def render(self) -> UInt8[Tensor, "n 3 h w"]:
        images = torch.empty(len(self.shape), 3, self.side, self.side, dtype=torch.uint8)
        for label, outline in enumerate(OUTLINES.values()):
            for rows in (self.shape == label).nonzero().flatten().split(CHUNK):
                images[rows] = self._draw(rows, outline)
        return images

    def _draw(self, rows: Int[Tensor, " b"], outline: Callable[[Plane, Plane], Plane]) -> UInt8[Tensor, "b 3 h w"]:
        axis = (torch.arange(self.side) + 0.5) / self.side - 0.5
        x, y = axis.expand(len(rows), self.side, self.side), -axis[:, None].expand(len(rows), self.side, self.side)

        def cover(distance: Plane) -> Float[Tensor, "b 1 h w"]:
            return (0.5 - distance * self.side).clamp(0, 1)[:, None]  # a pixel's share inside the edge

        background = self.background[rows][..., None, None]  # (b, 2, 3, 1, 1)
        canvas = mix(background[:, 0], background[:, 1], self._weave(rows, x, y)[:, None])  # (b, 3, h, w)
        for rod in range(CLUTTER):
            at = self.rods[rows, rod]
            u, v = turn(x - plane(at[:, 0]), y - plane(at[:, 1]), self.bend[rows, rod])
            u = (u.abs() - plane(self.reach[rows, rod])).clamp(min=0)
            paint = self.paint[rows, rod][..., None, None]
            canvas = mix(canvas, paint, cover((u * u + v * v).sqrt() - plane(self.width[rows, rod])))
        radius = plane(self.radius[rows])
        u, v = turn(x - plane(self.x[rows]), y - plane(self.y[rows]), self.tilt[rows])
        u, v = u / radius, v / radius
        shade = turn(u, v, self.shading[rows])[0][:, None] * 0.1
        canvas = mix(canvas, self.colour[rows][..., None, None] + shade, cover(outline(u, v) * radius))
        noise = torch.rand(canvas.shape, generator=self.rng) * 0.1 - 0.05
        return ((canvas + noise).clamp(0, 1) * 255).round().to(torch.uint8)

    def _weave(self, rows: Int[Tensor, " b"], x: Plane, y: Plane) -> Plane:
        """How much of the second background colour there is, in [0, 1]."""
        u, v = turn(x, y, self.direction[rows])
        period, phase = plane(self.period[rows]), self.phase[rows]
        a, b = wave(u / period + plane(phase[:, 0])), wave(v / period + plane(phase[:, 1]))
        stripes, crossing = ((a - 0.5) * 4 + 0.5).clamp(0, 1), ((b - 0.5) * 4 + 0.5).clamp(0, 1)
        dots = ((0.6 - (a * a + b * b).sqrt()) * 4).clamp(0, 1)
        checks = stripes + crossing - 2 * stripes * crossing
        texture = plane(self.texture[rows])
        woven = torch.zeros_like(u)
        for kind, field in enumerate((u + 0.5, stripes, checks, dots, self._clouds(rows))):
            woven = torch.where(texture == kind, field, woven)
        return woven.clamp(0, 1)

    def _clouds(self, rows: Int[Tensor, " b"]) -> Plane:
        """A coarse random grid, interpolated linearly."""
        place = torch.arange(self.side) * (4 / (self.side - 1))
        hat = (1 - (place[:, None] - torch.arange(5)).abs()).clamp(0, 1)  # (h, 5)
        lines = sum(self.clouds[rows, i, None, :] * hat[:, i, None] for i in range(5))  # (b, h, 5)
        return sum(lines[:, :, i, None] * hat[:, i] for i in range(5))  # (b, h, w)


def plane(number: Num[Tensor, " b"]) -> Num[Tensor, "b 1 1"]:
    return number[:, None, None]


def mix(
    below: Float[Tensor, "b 3 #h #w"], above: Float[Tensor, "b 3 #h #w"], share: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 3 h w"]:
    return below + (above - below) * share


def wave(turns: Plane) -> Plane:
    """A triangle wave of period 1 in [0, 1]."""
    return 2 * (turns - turns.floor() - 0.5).abs()


def turn(x: Plane, y: Plane, degrees: Float[Tensor, " b"]) -> tuple[Plane, Plane]:
    """Coordinates in a frame that is turned counter-clockwise."""
    angle = torch.deg2rad(degrees.double())
    c, s = plane(angle.cos().float()), plane(angle.sin().float())
    return x * c + y * s, y * c - x * s


def tint(
    lightness: Float[Tensor, "*n"], hue: Float[Tensor, "*n"], chroma: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 3"]:
    """RGB of about the given lightness in [0, 1]; hue in turns, chroma a distance from grey."""
    angle = 2 * math.pi * hue.double()
    shift = torch.stack([(angle - 2 * math.pi * k / 3).cos() for k in range(3)], -1).float()
    return (lightness[..., None] + chroma[..., None] * shift).clamp(0, 1)


class Shapes:
    """Ten classes of pictograms, `size` x `size` RGB, rendered on the spot; nothing is downloaded.

    Args:
        images: training images, validation among them.
        test: test images; they depend on `seed` and not on `images`.
        validation: share of `images`, the same of every class; 0 for none.
        size: pixels a side.
        seed: of the images and of the split. It is the data's own: runs of other seeds see the same data.
    """

    def __init__(
        self,
        *,
        images: Annotated[int, Ge(20)] = 10_000,
        test: Annotated[int, Ge(0)] = 2_000,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        size: Annotated[int, Ge(16)] = 32,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.images = images
        self.test = test
        self.validation = validation
        self.size = size
        self.seed = seed
        self.shape = (3, size, size)
        counts = [len(range(label, images, len(OUTLINES))) for label in range(len(OUTLINES))]
        self.rows = images - sum(held_out(count, validation) for count in counts)

    def load(self) -> Data:
        """Renders all images: some seconds for 10,000 of 32 x 32."""
        scene = Scene(self.images, self.size, torch.Generator().manual_seed(2 * self.seed))
        images, factors = scene.render(), scene.factors()
        train, validation = (
            Split(images[rows], scene.shape[rows], {name: factor[rows] for name, factor in factors.items()})
            for rows in stratified(scene.shape, self.validation, self.seed)
        )
        unseen = Scene(self.test, self.size, torch.Generator().manual_seed(2 * self.seed + 1))
        test = Split(unseen.render(), unseen.shape, unseen.factors())
        mean, std = statistics(train.x)
        return Data(
            train=train.x,
            bank=train,
            validation=validation if len(validation.y) else None,
            test=test if self.test else None,
            mean=mean,
            std=std,
            classes=tuple(OUTLINES),
            fingerprint=fingerprint(train.x, validation.x, test.x),
        )
