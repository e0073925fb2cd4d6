"""A recipe for one random view of each image in a batch: crop, flip, tilt, colour, blur, solarise, in this order.

The random numbers are drawn first, all of them, and then applied. What is done to a sample depends on its own row of
the draw, and on no other sample of the batch.
"""

import math
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Bool, Float
from torch import Tensor

from ssl_runner.augment.blur import blur
from ssl_runner.augment.colour import recolour, solarise
from ssl_runner.augment.geometry import crop_matrix, flip, resample

Probability = Annotated[float, Interval(ge=0, le=1)]
TRIES = 10  # boxes drawn before the crop falls back on the centre, as torchvision does


class Draw(NamedTuple):
    """What is done to each of B samples; None is done to none of them."""

    box: Float[Tensor, "b 4"] | None  # top, left, height, width in shares of the image
    flip: Bool[Tensor, " b"] | None  # None together with vertical_flip
    vertical_flip: Bool[Tensor, " b"] | None
    angle: Float[Tensor, " b"] | None  # radians, counter-clockwise
    colour: Float[Tensor, "b 4"] | None  # factors of brightness, contrast and saturation (0 for grey); hue in turns
    sigma: Float[Tensor, " b"] | None  # pixels, 0 for no blur
    solarise: Bool[Tensor, " b"] | None


class Views:
    """Makes one view of each image, every sample by its own draw.

    size: side of the square view in pixels; None keeps the image's height and width.
    scale, ratio: area of the crop as a share of the image, and its width over its height in pixels, distributed as in
        torchvision's RandomResizedCrop; scale (1, 1) is the whole image, whatever the ratio.
    flip, vertical_flip, jitter, grey, blur, solarise: probabilities a sample; jitter is that of all four colours.
    degrees: the tilt is uniform between -degrees and degrees.
    brightness, contrast, saturation: factors are uniform in [max(0, 1 - s), 1 + s]. hue: turns, in [-hue, hue].
    blur_sigma: range of the blur's standard deviation in pixels.

    Saturation, hue and grey want three channels; images of another number are spared them. With everything off the
    images come back as they are.

    Raises ValueError where a range is upside down.
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Gt(0)] | None = None,
        scale: tuple[Annotated[float, Interval(gt=0, le=1)], Annotated[float, Interval(gt=0, le=1)]] = (0.2, 1.0),
        ratio: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (3 / 4, 4 / 3),
        flip: Probability = 0.5,
        vertical_flip: Probability = 0.0,
        degrees: Annotated[float, Interval(ge=0, le=180)] = 0.0,
        jitter: Probability = 0.8,
        brightness: Annotated[float, Ge(0)] = 0.4,
        contrast: Annotated[float, Ge(0)] = 0.4,
        saturation: Annotated[float, Ge(0)] = 0.2,
        hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.1,
        grey: Probability = 0.2,
        blur: Probability = 0.0,
        blur_sigma: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.1, 2.0),
        solarise: Probability = 0.0,
    ):
        for name, (low, high) in {"scale": scale, "ratio": ratio, "blur_sigma": blur_sigma}.items():
            if low > high:
                raise ValueError(f"{name} [{low}, {high}] is upside down; write the smaller first: [{high}, {low}]")
        self.size = size
        self.scale, self.ratio = scale, ratio
        self.flip, self.vertical_flip, self.degrees = flip, vertical_flip, degrees
        self.jitter, self.grey = jitter, grey
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.blur, self.blur_sigma = blur, blur_sigma
        self.solarise = solarise

    def __call__(self, x: Float[Tensor, "b c h w"], rng: torch.Generator) -> Float[Tensor, "b c h2 w2"]:
        """A view in [0, 1] of each image in [0, 1]; `rng` lives on the images' device."""
        b, _, h, w = x.shape
        return self.apply(x, self.draw(b, (h, w), rng))

    def draw(self, n: int, shape: tuple[int, int], rng: torch.Generator) -> Draw:
        """The random numbers for n images of a shape (height, width), on the generator's device."""

        def uniform(low: float, high: float) -> Float[Tensor, " n"]:
            return torch.rand(n, generator=rng, device=rng.device) * (high - low) + low

        def chance(probability: float) -> Bool[Tensor, " n"]:
            return torch.rand(n, generator=rng, device=rng.device) < probability

        flips = self.flip or self.vertical_flip
        radians = math.radians(self.degrees)
        colour = None
        if self.jitter or self.grey:
            jittered = chance(self.jitter)
            brightness, contrast, saturation = (
                torch.where(jittered, uniform(max(0.0, 1 - strength), 1 + strength), 1.0)
                for strength in (self.brightness, self.contrast, self.saturation)
            )
            hue = uniform(-self.hue, self.hue) * jittered
            colour = torch.stack([brightness, contrast, saturation * ~chance(self.grey), hue], 1)  # (n, 4)
        return Draw(
            box=None if self.scale == (1, 1) else self._boxes(n, shape, rng),
            flip=chance(self.flip) if flips else None,
            vertical_flip=chance(self.vertical_flip) if flips else None,
            angle=uniform(-radians, radians) if radians else None,
            colour=colour,
            sigma=uniform(*self.blur_sigma) * chance(self.blur) if self.blur else None,
            solarise=chance(self.solarise) if self.solarise else None,
        )

    def _boxes(self, n: int, shape: tuple[int, int], rng: torch.Generator) -> Float[Tensor, "n 4"]:
        """Crops in whole pixels, by the rejection of torchvision's RandomResizedCrop, with all tries made at once."""
        h, w = shape
        area, turn, down, across = torch.rand(4, n, TRIES, generator=rng, device=rng.device)
        area = h * w * (area * (self.scale[1] - self.scale[0]) + self.scale[0])
        low, high = (math.log(ratio) for ratio in self.ratio)
        ratio = (turn * (high - low) + low).exp()
        width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (n, TRIES)
        top, left = (down * (h - height + 1)).floor(), (across * (w - width + 1)).floor()
        inside = (height > 0) & (height <= h) & (width > 0) & (width <= w)
        boxes = torch.stack([top / h, left / w, height / h, width / w], 2)  # (n, TRIES, 4)
        first = inside.int().argmax(1)  # argmax yields the first of equals
        box = boxes.gather(1, first.view(-1, 1, 1).expand(-1, 1, 4))[:, 0]  # (n, 4)
        # Where no try fits, the largest box in the centre whose ratio is allowed.
        width, height = min(w, max(1, round(h * self.ratio[1]))), min(h, max(1, round(w / self.ratio[0])))
        centre = ((h - height) // 2 / h, (w - width) // 2 / w, height / h, width / w)
        fits = inside.any(1)
        return torch.stack([torch.where(fits, box[:, i], centre[i]) for i in range(4)], 1)

    def apply(self, x: Float[Tensor, "b c h w"], draw: Draw) -> Float[Tensor, "b c h2 w2"]:
        """Does to each image what its row of the draw says. It returns `x` itself where there is nothing to do."""
        size = (self.size, self.size) if self.size else (x.shape[2], x.shape[3])
        view = x
        if draw.box is not None or draw.angle is not None or size != x.shape[2:]:
            if (box := draw.box) is None:
                box = x.new_zeros(len(x), 4)
                box[:, 2:] = 1
            matrix = crop_matrix(*box.unbind(1), draw.flip, draw.vertical_flip, draw.angle, aspect=size[1] / size[0])
            view = resample(x, matrix, size).clamp_(0, 1)  # the weights of a blend add up to 1 within rounding only
        elif draw.flip is not None:
            view = flip(x, draw.flip, draw.vertical_flip)
        if draw.colour is not None:
            view = recolour(view, *draw.colour.unbind(1))
        if draw.sigma is not None:
            view = blur(view, draw.sigma).clamp_(0, 1)
        if draw.solarise is not None:
            view = solarise(view, draw.solarise)
        return view
