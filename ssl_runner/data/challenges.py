"""Challenges of real data: few rows, class imbalance, input noise, missing data, label noise.

Long tail: Cui, Jia, Lin, Song, Belongie: Class-balanced loss based on effective number of samples, CVPR 2019,
arXiv 1901.05555, section 5.1. Label noise, symmetric and pairwise: Patrini, Rozza, Menon, Nock, Qu: Making deep neural
networks robust to label noise, CVPR 2017, arXiv 1609.03683. Corruptions: augment/image/corruption.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.augment.image.corruption import STRENGTHS, corrupt
from ssl_runner.contract import Data, Rows, Samples, Split
from ssl_runner.data.split import Subset
from ssl_runner.data.statistics import fingerprint, statistics

COPIED = 1 << 30  # bytes up to which changed rows are kept; larger sets are changed each time that they are read
PATCHES = 8  # a side, of an image whose patches are missing
MIXED = ("salt_and_pepper", "noise", "blur", "jpeg", "occlusion")
Seed = Annotated[int, Interval(ge=0, lt=2**32)]


@dataclass(frozen=True, kw_only=True)
class Challenges:
    """Options of every dataset that make its training rows harder; validation and test stay as they are.

    What is drawn depends on `challenge_seed` and the row, never on the seed of a run. Corruption and missing parts are
    of images. Labels decide which rows are kept, and are noisy for evaluators alone: a pretext task sees none.
    """

    subset: Annotated[float, Interval(gt=0, le=1)] = 1.0  # share of the training rows that is kept
    stratified: bool = True  # whether every class keeps that share of its own rows
    imbalance: Annotated[float, Ge(1)] = 1.0  # rows of the first class for one of the last; between them they decay
    corrupt: Literal["none", "salt_and_pepper", "noise", "blur", "jpeg", "occlusion", "mixed"] = "none"
    strength: Annotated[int, Interval(ge=1, le=5)] | None = None  # of the corruption; None: drawn for each image
    missing: Annotated[float, Interval(ge=0, lt=1)] = 0.0  # share of each image that is absent, and black
    missing_part: Literal["pixels", "patches", "channels"] = "pixels"
    label_noise: Annotated[float, Interval(ge=0, lt=1)] = 0.0  # share of the labels that are wrong
    label_noise_kind: Literal["symmetric", "pairwise"] = "symmetric"  # any other class, or the next one
    challenge_seed: Seed = 0

    @property
    def changes_rows(self) -> bool:
        return self.subset < 1 or self.imbalance > 1

    @property
    def changes_images(self) -> bool:
        return self.corrupt != "none" or self.missing > 0

    def kept_counts(self, counts: Sequence[int]) -> list[int]:
        """Training rows of each class that are kept of `counts`, one number if there are no classes.

        Of a subset that is not stratified only the sum is sure.
        """
        last = max(1, len(counts) - 1)
        kept = [count * self.imbalance ** (-label / last) for label, count in enumerate(counts)]
        if self.stratified:
            return [max(1, round(self.subset * each)) if each else 0 for each in kept]
        kept = [max(1, round(each)) if each else 0 for each in kept]
        total = max(1, round(self.subset * sum(kept)))
        return [total - sum(kept[1:]), *kept[1:]]

    def apply(self, data: Data, samples: Samples) -> Data:
        """The data with all that was asked for. Raises ValueError if it cannot be had of such data."""
        if self.changes_images and samples.kind != "image":
            raise ValueError(f"corrupt and missing are of images, and the samples are {samples.kind}; leave them out")
        if self.imbalance > 1 and (data.bank is None or len(data.classes) < 2):
            raise ValueError(f"imbalance={self.imbalance:g} takes classes, and the rows have no labels; leave it out")
        if not (self.changes_rows or self.changes_images or self.label_noise):
            return data
        own = data.bank is not None and data.bank.x is data.train  # else the labelled part is another one
        bank, train = data.bank, data.train
        if self.changes_rows:
            index = self.kept_rows(bank.y if bank and own else None, len(train), len(data.classes))
            train = Subset(train, index)
            if bank and own:
                targets = {name: each[index] for name, each in bank.targets.items()}
                bank = Split(train, None if bank.y is None else bank.y[index], targets)
        train = self.changed_images(train, samples)
        if bank:
            x = train if own else self.changed_images(bank.x, samples)
            bank = replace(bank, x=x, y=self.mislabelled(bank.y, len(data.classes)))
        mean, std = statistics(train) if samples.kind == "image" else (data.mean, data.std)
        known = torch.tensor(list(f"{data.fingerprint} {self.settings}".encode()), dtype=torch.uint8)
        return replace(data, train=train, bank=bank, mean=mean, std=std, fingerprint=fingerprint(known))

    @property
    def settings(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in Challenges.__dataclass_fields__}

    def kept_rows(self, y: Int[Tensor, " n"] | None, n: int, classes: int) -> Int[Tensor, " k"]:
        """Sorted rows that are kept, drawn within each class."""
        rng = torch.Generator().manual_seed(self.challenge_seed)
        order = torch.randperm(n, generator=rng)
        y = torch.zeros(n, dtype=torch.int64) if y is None else y.cpu()
        counts = y.bincount(minlength=classes).tolist()
        stratified = self if self.stratified else replace(self, subset=1.0, stratified=True)
        by_class = [order[y[order] == label][:kept] for label, kept in enumerate(stratified.kept_counts(counts))]
        kept = torch.cat(by_class)
        if not self.stratified:
            kept = kept[torch.randperm(len(kept), generator=rng)][: sum(self.kept_counts(counts))]
        return kept.sort().values

    def mislabelled(self, y: Int[Tensor, " n"] | None, classes: int) -> Int[Tensor, " n"] | None:
        """Labels, of which a share is drawn anew among the other classes, or is that of the next class."""
        if y is None or not self.label_noise:
            return y
        rng = torch.Generator().manual_seed(self.challenge_seed + 1)
        wrong = torch.rand(len(y), generator=rng) < self.label_noise
        shift = torch.randint(1, max(2, classes), (len(y),), generator=rng)
        shift = torch.ones_like(shift) if self.label_noise_kind == "pairwise" else shift
        return torch.where(wrong, (y.cpu() + shift) % classes, y.cpu())

    def changed_images(self, rows: Rows, samples: Samples) -> Rows:
        """The rows corrupted and with parts missing, at once if they fit into memory."""
        if not self.changes_images:
            return rows
        changed = ChangedRows(rows, self)
        if len(rows) * torch.Size(samples.shape).numel() > COPIED:
            return changed
        return torch.cat([changed[index] for index in torch.arange(len(rows)).split(1024)])


class ChangedRows:
    """Rows of images, each corrupted in a way that is a function of its number and the seed."""

    def __init__(self, rows: Rows, challenges: Challenges):
        self.rows, self.challenges = rows, challenges

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        x = self.rows[index]
        changed = [self.change(image[None], int(row)) for image, row in zip(x, index, strict=True)]
        return torch.cat(changed) if changed else x

    def change(self, image: UInt8[Tensor, "1 c h w"], row: int) -> UInt8[Tensor, "1 c h w"]:
        given = self.challenges
        rng = torch.Generator().manual_seed((given.challenge_seed << 31) + row)
        kinds = MIXED if given.corrupt == "mixed" else (given.corrupt,)
        kind = kinds[int(torch.randint(len(kinds), (), generator=rng))]
        strength = int(torch.randint(1, len(STRENGTHS) + 1, (), generator=rng))
        if kind != "none":
            image = (corrupt(image.float() / 255, kind, given.strength or strength, rng) * 255).round().to(torch.uint8)
        if not given.missing:
            return image
        c, h, w = image.shape[1:]
        grid = {"pixels": (1, h, w), "patches": (1, PATCHES, PATCHES), "channels": (c, 1, 1)}[given.missing_part]
        absent = torch.rand(1, *grid, generator=rng) < given.missing
        if given.missing_part == "patches":
            absent = absent.float()
            absent = torch.nn.functional.interpolate(absent, size=(h, w)).bool()
        return image.masked_fill(absent.to(image.device), 0)
