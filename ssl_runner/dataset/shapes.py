"""Synthetic images of ten pictograms with known factors of variation, drawn by rendering/scene.py."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.rows import Share, fingerprint, held_out_count, statistics, stratified_split
from ssl_runner.rendering.pictograms import OUTLINES
from ssl_runner.rendering.scene import FACTORS, Scene


@dataclass(kw_only=True)
class Shapes(Challenges):
    """Ten shape classes (rows) with nuisance factors: colour, position, size, tilt, texture, distractors.

    Images are RGB and rendered on the spot; nothing is downloaded. The factors are further `targets`.
    """

    images: Annotated[int, Ge(20)] = 10_000  # for training, validation among them
    test: Annotated[int, Ge(0)] = 2_000  # they depend on `seed` and not on `images`
    validation: Share = 0.1  # of `images`
    size: Annotated[int, Ge(16)] = 32  # pixels a side
    seed: Annotated[int, Ge(0)] = 0  # of images and split, not of a run: runs of other seeds see the same data

    targets: ClassVar = FACTORS

    def __post_init__(self) -> None:
        amount = 3 * self.size**2 * (self.images + self.test)
        if amount > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            given = f"dataset: given images={self.images}, test={self.test} and size={self.size}"
            sizes = f"{amount / 1e9:,.1f} GB of images, and there are {memory / 1e9:,.1f} GB"
            raise ValueError(f"{given}, which are {sizes}; choose fewer or smaller ones")
        super().__post_init__()

    @property
    def samples(self) -> Samples:
        return Samples("image", (3, self.size, self.size))

    @property
    def training_counts(self) -> Sequence[int]:
        counts = [len(range(label, self.images, len(OUTLINES))) for label in range(len(OUTLINES))]
        return [count - held_out_count(count, self.validation) for count in counts]

    def load(self) -> Data:
        """Renders all images: some seconds for 10,000 of 32 x 32."""
        scene = Scene(self.images, self.size, torch.Generator().manual_seed(2 * self.seed))
        images, targets = scene.render(), scene.targets()
        bank, validation = (
            Split(images[rows], scene.shape[rows], {name: factor[rows] for name, factor in targets.items()})
            for rows in stratified_split(scene.shape, self.validation, self.seed)
        )
        unseen = Scene(self.test, self.size, torch.Generator().manual_seed(2 * self.seed + 1))
        test = Split(unseen.render(), unseen.shape, unseen.targets())
        digest = fingerprint(bank.x, validation.x, test.x)
        measured = (split if len(split.x) else None for split in (validation, test))
        return self.apply(Data(bank.x, bank, *measured, *statistics(bank.x), tuple(OUTLINES), digest))
