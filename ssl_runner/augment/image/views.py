"""Random views of a batch of images: crop, flip, tilt, colour, blur, solarise, in this order.

The random numbers are drawn first, all of them, and then applied. What is done to a sample depends on its own row of
the draw, and on no other sample of the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Bool, Float
from torch import Tensor

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import recolour, solarise
from ssl_runner.augment.image.geometry import crop_matrix, flip, resample
from ssl_runner.contract import Kind, Rng

Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(gt=0, le=1)]
Positive = Annotated[float, Gt(0)]
TRIES = 10  # boxes drawn before the crop falls back on the centre, as torchvision does
BELOW_1 = 1 - 1e-6  # of k places, times k, it is less than k also when rounded


class Draw(NamedTuple):
    """What is done to each of B samples. None: to no sample."""

    box: Float[Tensor, "b 4"] | None  # top, left, height, width in shares of the image
    flip: Bool[Tensor, " b"] | None
    vertical_flip: Bool[Tensor, " b"] | None
    angle: Float[Tensor, " b"] | None  # radians, counter-clockwise
    colour: Float[Tensor, "b 4"] | None  # factors of brightness, contrast and saturation (0 for grey); hue in turns
    sigma: Float[Tensor, " b"] | None  # pixels, 0 for no blur
    solarise: Bool[Tensor, " b"] | None


@dataclass(frozen=True, kw_only=True)
class Views:
    """Makes one view of each image, every sample by its own draw.

    flip, vertical_flip, jitter, grey, blur and solarise are probabilities a sample. Saturation, hue and grey want three
    channels; images of another number are spared them. With everything off the images come back as they are.
    Raises ValueError if a range is upside down.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image",)
    size: Annotated[int, Interval(ge=1, le=4096)] | None = None  # pixels a side of the square view; None: the image's
    # The crop is distributed as in torchvision's RandomResizedCrop; scale (1, 1) is the whole image for any ratio.
    scale: tuple[Share, Share] = (0.2, 1.0)  # its area as a share of the image
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # its width over its height, in pixels
    flip: Probability = 0.5
    vertical_flip: Probability = 0.0
    degrees: Annotated[float, Interval(ge=0, le=180)] = 0.0  # the tilt is uniform between -degrees and degrees
    jitter: Probability = 0.8  # that of all four colours
    brightness: Annotated[float, Ge(0)] = 0.4  # this and the next two: factors are uniform in [max(0, 1 - s), 1 + s]
    contrast: Annotated[float, Ge(0)] = 0.4
    saturation: Annotated[float, Ge(0)] = 0.2
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.1  # turns, in [-hue, hue]
    grey: Probability = 0.2
    blur: Probability = 0.0
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)  # range of the standard deviation in pixels
    solarise: Probability = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio, "blur_sigma": self.blur_sigma}.items():
            if low > high:
                raise ValueError(f"{name} [{low}, {high}] is upside down; write the smaller first: [{high}, {low}]")

    def __call__(self, x: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b c h2 w2"]:
        """A view in [0, 1] of each image in [0, 1]; `rng` lives on the images' device."""
        b, _, h, w = x.shape
        return self.apply(x, self.draw(b, (h, w), rng))

    def draw(self, n: int, shape: tuple[int, int], rng: Rng) -> Draw:
        """The random numbers for n images of a shape (height, width), on the generator's device.

        All are drawn whether they are asked for or not: to turn one thing on or off leaves the others as they were.
        """
        (h, w), tilt = shape, math.radians(self.degrees)
        factors = [(max(0.0, 1 - s), 1 + s) for s in (self.brightness, self.contrast, self.saturation)]
        ranges = [(0.0, BELOW_1), (0.0, BELOW_1), (-tilt, tilt), *factors, (-self.hue, self.hue), self.blur_sigma]
        area, stretch = ((a * h * w for a in self.scale), (math.log(ratio) / 2 for ratio in self.ratio))
        ranges += [tuple(area)] * TRIES + [tuple(stretch)] * TRIES
        chances = (self.flip, self.vertical_flip, self.jitter, self.grey, self.blur, self.solarise)
        u = rng.rand(n, len(ranges) + len(chances)).T
        device = u.device
        low, span = zip(*((low, high - low) for low, high in ranges), strict=True)
        value = torch.addcmul(column(low, device), column(span, device), u[: len(ranges)])
        flip, vertical_flip, jitter, grey, blur, solarise = u[len(ranges) :] < column(chances, device)
        colour = torch.where(jitter, value[3:7], column((1.0, 1.0, 1.0, 0.0), device))  # (4, n)
        colour[2].masked_fill_(grey, 0)
        return Draw(
            box=None if self.scale == (1, 1) else self._boxes(shape, value[:2], value[8:].unflatten(0, (2, TRIES))),
            flip=flip if self.flip else None,
            vertical_flip=vertical_flip if self.vertical_flip else None,
            angle=value[2] if self.degrees else None,
            colour=colour.T if self.jitter or self.grey else None,
            sigma=value[7] * blur if self.blur else None,
            solarise=solarise if self.solarise else None,
        )

    def _boxes(
        self, shape: tuple[int, int], place: Float[Tensor, "2 n"], tries: Float[Tensor, "2 k n"]
    ) -> Float[Tensor, "n 4"]:
        """Crops in whole pixels, by the rejection of torchvision's RandomResizedCrop, with all tries made at once.

        place: how far down and across the crop lies among the places where it fits, in [0, 1).
        tries: areas in pixels, and half the logarithms of width over height.
        """
        (h, w), n, device = shape, place.shape[1], place.device
        side, stretch = tries[0].sqrt(), tries[1].exp()
        # The last try always fits: the largest box in the centre whose ratio is allowed.
        largest = (min(h, max(1, round(w / self.ratio[0]))), min(w, max(1, round(h * self.ratio[1]))))
        fits = column(largest, device)[:, None].expand(2, 1, n)
        sides = torch.cat([torch.stack([side / stretch, side * stretch]).round_(), fits], 1)  # heights and widths
        whole = column((h, w), device)
        first = ((sides >= 1) & (sides <= whole[:, None])).all(0).int().argmax(0)  # argmax yields the first of equals
        sides = sides.gather(1, first.expand(2, 1, n))[:, 0]  # (2, n)
        corner = (place.masked_fill(first == TRIES, BELOW_1 / 2) * (whole - sides + 1)).floor_()
        return (torch.cat([corner, sides]) / column((h, w, h, w), device)).T

    def apply(self, x: Float[Tensor, "b c h w"], draw: Draw) -> Float[Tensor, "b c h2 w2"]:
        """Does to each image what its row of the draw says. It returns `x` itself if there is nothing to do."""
        size = (self.size, self.size) if self.size else (x.shape[2], x.shape[3])
        view = x
        if draw.box is not None or draw.angle is not None or size != x.shape[2:]:
            view = resample(x, self.matrix(x, draw), size, edge="border" if draw.angle is None else "reflection")
            if draw.colour is None:  # which clamps, too
                view.clamp_(0, 1)  # the weights of a blend add up to 1 within rounding only
        elif draw.flip is not None or draw.vertical_flip is not None:
            view = flip(x, draw.flip, draw.vertical_flip)
        if draw.colour is not None:
            view = recolour(view, *draw.colour.unbind(1))
        if (sigma := draw.sigma) is not None:
            view = changed(view, view is not x, sigma > 0, lambda view, rows: blur(view, sigma[rows]).clamp_(0, 1))
        if (chosen := draw.solarise) is not None:
            view = changed(view, view is not x, chosen, lambda view, rows: solarise(view, chosen[rows]))
        return view

    def matrix(self, x: Float[Tensor, "b c h w"], draw: Draw) -> Float[Tensor, "b 2 3"]:
        """The map from the coordinates of the views that a draw makes of images to those of the images."""
        box = column((0.0, 0.0, 1.0, 1.0), x.device).T.expand(len(x), 4) if draw.box is None else draw.box
        aspect = 1.0 if self.size else x.shape[3] / x.shape[2]
        return crop_matrix(*box.unbind(1), draw.flip, draw.vertical_flip, draw.angle, aspect=aspect)


Change = Callable[[Float[Tensor, "n c h w"], Tensor | slice], Float[Tensor, "n c h w"]]


def changed(
    x: Float[Tensor, "b c h w"], ours: bool, chosen: Bool[Tensor, " b"], change: Change
) -> Float[Tensor, "b c h w"]:
    """The images, the chosen ones changed: these alone if that costs no waiting for a device to count them.

    ours: whether the images may be written over.
    change: of images and their rows; it leaves those that are not chosen as they are.
    """
    return change_rows(x, ours, chosen, change) if x.device.type == "cpu" else change(x, slice(None))


def change_rows(
    x: Float[Tensor, "b c h w"], ours: bool, chosen: Bool[Tensor, " b"], change: Change
) -> Float[Tensor, "b c h w"]:
    rows = chosen.nonzero()[:, 0]
    if len(rows) == len(x):
        return change(x, slice(None))
    if not len(rows):
        return x
    return (x if ours else x.clone()).index_copy_(0, rows, change(x[rows], rows))


@cache
def column(numbers: tuple[int | float, ...], device: torch.device) -> Float[Tensor, "k 1"]:
    """Numbers under each other. Kept a device: copying them there at each step would make the host wait."""
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")[:, None].to(device)
