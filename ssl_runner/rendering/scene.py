"""Scenes of one pictogram each: random factors of variation, and the images that are rendered from them.

Only the shape tells what is up and which side is left: backgrounds, distractors and shading are drawn alike in all
directions. Which way a shape points differs from class to class, so predicting a rotation takes knowing the class.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssl_runner.rendering.canvas import Plane, blend, over_pixels, rotate, to_rgb, triangle_wave, upsample
from ssl_runner.rendering.pictograms import OUTLINES, Outline

TEXTURES = ("gradient", "stripes", "checks", "dots", "clouds")
DISTRACTORS = 5  # rods of other colours behind the shape
CHUNK = 500  # images drawn at a time
FACTORS = ("shape", "colour", "hue", "position", "size", "tilt", "texture", "background")


class Scene:
    """Factors of n images, drawn one after another from a generator, and the images.

    `side` is in pixels. `render` draws its noise from the same generator: rendered again, it is another draw.
    """

    def __init__(self, n: int, side: int, rng: torch.Generator):
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=rng) * (high - low) + low

        self.side, self.rng = side, rng
        self.shape = (torch.arange(n) % len(OUTLINES))[torch.randperm(n, generator=rng)]
        self.radius = uniform(0.22, 0.36)  # in sides of the image, as x and y
        room = 0.48 - self.radius  # the shape lies inside the image
        self.x, self.y = uniform(-1.0, 1.0) * room, uniform(-1.0, 1.0) * room  # of its centre, from the image's; y up
        self.tilt = uniform(-20.0, 20.0)  # degrees counter-clockwise
        self.texture = torch.randint(len(TEXTURES), (n,), generator=rng)
        self.direction, self.shading = uniform(0.0, 360.0), uniform(0.0, 360.0)  # degrees, of texture and of shading
        self.period = uniform(0.14, 0.4)  # sides of the image
        self.phase = uniform(0.0, 1.0, 2)  # periods
        self.clouds = uniform(0.0, 1.0, 5, 5)  # a coarse grid
        # A shape is lighter than its background or darker, as often the one as the other.
        dark = torch.rand(n, generator=rng) < 0.5
        near, far = uniform(0.66, 0.9), uniform(0.14, 0.38)
        self.hue = uniform(0.0, 1.0)
        self.colour = to_rgb(torch.where(dark, far, near), self.hue, uniform(0.1, 0.3))
        light = torch.where(dark, near, far)
        self.background = torch.stack(  # (n, 2, 3)
            [to_rgb(light + uniform(-0.1, 0.1), uniform(0.0, 1.0), uniform(0.05, 0.25)) for _ in range(2)], 1
        )
        self.rods = uniform(-0.5, 0.5, DISTRACTORS, 2)  # centres
        self.rod_half_length = uniform(0.0, 0.14, DISTRACTORS)
        self.rod_angle = uniform(0.0, 360.0, DISTRACTORS)  # degrees
        self.rod_half_width = uniform(0.015, 0.05, DISTRACTORS)
        lightness, hue = uniform(0.2, 0.8, DISTRACTORS), uniform(0.0, 1.0, DISTRACTORS)
        self.rod_colour = to_rgb(lightness, hue, uniform(0.05, 0.3, DISTRACTORS))

    def targets(self) -> dict[str, Tensor]:
        """Factors by name: (n,) or (n, k). Lengths in sides of the image, tilt in degrees, hue in turns."""
        position, size, background = torch.stack([self.x, self.y], 1), 2 * self.radius, self.background.flatten(1)
        factors = (self.shape, self.colour, self.hue, position, size, self.tilt, self.texture, background)
        return dict(zip(FACTORS, factors, strict=True))

    def render(self) -> UInt8[Tensor, "n 3 h w"]:
        """RGB, an image for each row of the factors."""
        images = torch.empty(len(self.shape), 3, self.side, self.side, dtype=torch.uint8)
        for label, outline in enumerate(OUTLINES.values()):
            for rows in (self.shape == label).nonzero().flatten().split(CHUNK):
                images[rows] = self.draw(rows, outline)
        return images

    def draw(self, rows: Int[Tensor, " b"], outline: Outline) -> UInt8[Tensor, "b 3 h w"]:
        axis = (torch.arange(self.side) + 0.5) / self.side - 0.5
        x, y = axis.expand(len(rows), self.side, self.side), -axis[:, None].expand(len(rows), self.side, self.side)
        canvas = self.draw_background(rows, x, y)
        for rod in range(DISTRACTORS):
            centre, half_length = self.rods[rows, rod], over_pixels(self.rod_half_length[rows, rod])
            u, v = x - over_pixels(centre[:, 0]), y - over_pixels(centre[:, 1])
            u, v = rotate(u, v, self.rod_angle[rows, rod])
            u = (u.abs() - half_length).clamp(min=0)
            distance = (u * u + v * v).sqrt() - over_pixels(self.rod_half_width[rows, rod])
            canvas = blend(canvas, self.rod_colour[rows, rod][..., None, None], self.cover(distance))
        radius = over_pixels(self.radius[rows])
        u, v = rotate(x - over_pixels(self.x[rows]), y - over_pixels(self.y[rows]), self.tilt[rows])
        u, v = u / radius, v / radius
        shade = rotate(u, v, self.shading[rows])[0][:, None] * 0.1
        cover = self.cover(outline(u, v) * radius)
        canvas = blend(canvas, self.colour[rows][..., None, None] + shade, cover)
        noise = torch.rand(canvas.shape, generator=self.rng) * 0.1 - 0.05
        return ((canvas + noise).clamp(0, 1) * 255).round().to(torch.uint8)

    def draw_background(self, rows: Int[Tensor, " b"], x: Plane, y: Plane) -> Float[Tensor, "b 3 h w"]:
        """Two colours in one of TEXTURES, which is rotated at random: none has a preferred direction."""
        u, v = rotate(x, y, self.direction[rows])  # along and across the texture
        period, phase = over_pixels(self.period[rows]), self.phase[rows]
        a = triangle_wave(u / period + over_pixels(phase[:, 0]))
        b = triangle_wave(v / period + over_pixels(phase[:, 1]))
        stripes, across = ((a - 0.5) * 4 + 0.5).clamp(0, 1), ((b - 0.5) * 4 + 0.5).clamp(0, 1)
        checks = stripes + across - 2 * stripes * across
        dots = ((0.6 - (a * a + b * b).sqrt()) * 4).clamp(0, 1)
        share = torch.zeros_like(u)  # of the second colour
        for number, field in enumerate((u + 0.5, stripes, checks, dots, upsample(self.clouds[rows], self.side))):
            share = torch.where(over_pixels(self.texture[rows]) == number, field, share)
        first, second = self.background[rows][..., None, None].unbind(1)  # (b, 3, 1, 1)
        return blend(first, second, share.clamp(0, 1)[:, None])

    def cover(self, distance: Plane) -> Float[Tensor, "b 1 h w"]:
        """The share of each pixel that is inside an edge."""
        return (0.5 - distance * self.side).clamp(0, 1)[:, None]
