"""Stripes in four directions, drawn by a formula: a data set that needs no file."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.rows import Share, statistics
from torch import Tensor

CLASSES = ("upright", "falling", "level", "rising")


@dataclass(kw_only=True)
class Stripes:
    """Stripes in four directions (classes), in random colours, of random width and place."""

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
    """(n, 3, size, size) images, uint8, and the class of each."""
    rng = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, 1, 1, generator=rng)

    kinds = torch.arange(n) % len(CLASSES)
    angle = (kinds[:, None, None] + between(-0.4, 0.4)) * math.pi / len(CLASSES)
    axis = torch.linspace(-1, 1, size)
    place = axis[:, None] * angle.sin() + axis * angle.cos()  # (n, size, size)
    wave = torch.sin(between(6, 16) * place + between(0, 2 * math.pi))[:, None] / 2 + 0.5  # (n, 1, size, size)
    images = wave * between(0, 1, 3) + (1 - wave) * between(0, 1, 3)
    images = images + 0.05 * torch.randn(images.shape, generator=rng)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8), kinds
