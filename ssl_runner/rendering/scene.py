"""Pictograms in free colour, place, size, tilt and surroundings, and the causes of each image by name.

Only the shape tells what is up and which side is left: backgrounds, clutter and shading are drawn alike in all
directions. Which way a shape points differs from class to class, so predicting a rotation takes knowing the class.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssl_runner.rendering.canvas import Plane, mix, plane, tint, turn
from ssl_runner.rendering.pictograms import OUTLINES, Outline
from ssl_runner.rendering.texture import TEXTURES, weave

CLUTTER = 5  # rods of other colours behind the shape
CHUNK = 500  # images drawn at a time
FACTORS = ("shape", "colour", "hue", "position", "size", "tilt", "texture", "background")


class Scene:
    """The causes of n images, drawn one after another from a generator, and the images that they cause.

    `side` is in pixels. `render` draws its noise from the same generator: rendered again, it is another draw.
    """

    def __init__(self, n: int, side: int, rng: torch.Generator):
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=rng) * (high - low) + low

        self.side, self.rng = side, rng
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

    def targets(self) -> dict[str, Tensor]:
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
        """RGB, an image for each row of the factors."""
        images = torch.empty(len(self.shape), 3, self.side, self.side, dtype=torch.uint8)
        for label, outline in enumerate(OUTLINES.values()):
            for rows in (self.shape == label).nonzero().flatten().split(CHUNK):
                images[rows] = self._draw(rows, outline)
        return images

    def _draw(self, rows: Int[Tensor, " b"], outline: Outline) -> UInt8[Tensor, "b 3 h w"]:
        axis = (torch.arange(self.side) + 0.5) / self.side - 0.5
        x, y = axis.expand(len(rows), self.side, self.side), -axis[:, None].expand(len(rows), self.side, self.side)
        canvas = self._background(rows, x, y)
        for rod in range(CLUTTER):
            at = self.rods[rows, rod]
            u, v = turn(x - plane(at[:, 0]), y - plane(at[:, 1]), self.bend[rows, rod])
            u = (u.abs() - plane(self.reach[rows, rod])).clamp(min=0)
            paint = self.paint[rows, rod][..., None, None]
            canvas = mix(canvas, paint, self._cover((u * u + v * v).sqrt() - plane(self.width[rows, rod])))
        radius = plane(self.radius[rows])
        u, v = turn(x - plane(self.x[rows]), y - plane(self.y[rows]), self.tilt[rows])
        u, v = u / radius, v / radius
        shade = turn(u, v, self.shading[rows])[0][:, None] * 0.1
        cover = self._cover(outline(u, v) * radius)
        canvas = mix(canvas, self.colour[rows][..., None, None] + shade, cover)
        noise = torch.rand(canvas.shape, generator=self.rng) * 0.1 - 0.05
        return ((canvas + noise).clamp(0, 1) * 255).round().to(torch.uint8)

    def _background(self, rows: Int[Tensor, " b"], x: Plane, y: Plane) -> Float[Tensor, "b 3 h w"]:
        u, v = turn(x, y, self.direction[rows])
        share = weave(
            u,
            v,
            texture=self.texture[rows],
            period=self.period[rows],
            phase=self.phase[rows],
            clouds=self.clouds[rows],
        )
        first, second = self.background[rows][..., None, None].unbind(1)  # (b, 3, 1, 1)
        return mix(first, second, share[:, None])

    def _cover(self, distance: Plane) -> Float[Tensor, "b 1 h w"]:
        """A pixel's share inside an edge."""
        return (0.5 - distance * self.side).clamp(0, 1)[:, None]
