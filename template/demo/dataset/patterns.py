"""Patterns drawn by formulas: a data set that needs no file."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.rows import Share, statistics
from torch import Tensor

CLASSES = ("stripes", "rings", "checks", "spokes")


@dataclass(kw_only=True)
class Patterns:
    """Four kinds of patterns in random colours, of random size, place and angle."""

    images: Annotated[int, Ge(40)] = 4000  # for training, validation among them
    test: Annotated[int, Ge(4)] = 800  # images of the test split
    validation: Share = 0.1  # of `images`
    size: Annotated[int, Ge(8)] = 32  # pixels a side
    seed: Annotated[int, Ge(0)] = 0  # of the images, not of a run

    @property
    def samples(self) -> Samples:
        return Samples("image", (3, self.size, self.size))

    @property
    def rows(self) -> int:
        return self.images - round(self.validation * self.images)

    def load(self) -> Data:
        images, kinds = draw(self.images, self.size, 2 * self.seed)
        bank, held = (Split(images[part], kinds[part]) for part in (slice(self.rows), slice(self.rows, None)))
        test = Split(*draw(self.test, self.size, 2 * self.seed + 1))
        return Data(bank.x, bank, held if len(held.x) else None, test, *statistics(bank.x), CLASSES)


def draw(n: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, 3, size, size) images, uint8, and the kind of each."""
    rng = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *(shape or (1, 1)), generator=rng)

    axis = torch.linspace(-1, 1, size)
    u, v = axis[:, None] - between(-0.3, 0.3), axis - between(-0.3, 0.3)
    angle, frequency, phase = between(0, 2 * math.pi), between(10, 14), between(0, 2 * math.pi)
    u, v = u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()  # (n, size, size)
    waves = (
        torch.sin(frequency * u + phase),
        torch.sin(frequency * torch.hypot(u, v) + phase),
        torch.sin(frequency * u) * torch.sin(frequency * v),
        torch.sin(8 * torch.atan2(u, v) + phase),
    )
    kinds = torch.arange(n) % len(CLASSES)
    shade = torch.stack(waves)[kinds, torch.arange(n)][:, None] / 2 + 0.5  # (n, 1, size, size)
    light, dark = between(0.6, 1, 3, 1, 1), between(0, 0.4, 3, 1, 1)  # a colour each
    images = shade * light + (1 - shade) * dark + 0.05 * torch.randn(n, 3, size, size, generator=rng)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8), kinds
