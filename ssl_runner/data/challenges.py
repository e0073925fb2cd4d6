"""Challenges of real data: few rows, class imbalance, input noise, missing data, label noise.

Long tail: Cui, Jia, Lin, Song, Belongie: Class-balanced loss based on effective number of samples, CVPR 2019,
arXiv 1901.05555, section 5.1. Label noise, symmetric and pairwise: Han, Yao, Yu, Niu, Xu, Hu, Tsang, Sugiyama:
Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018, arXiv 1804.06872,
section 4. Corruptions: augment/image/corruption.py.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Rows, Samples, Split
from ssl_runner.data.changed_rows import ChangedRows, draw_seeds, in_memory
from ssl_runner.data.rows import HASHED, Share, Subset, evenly_spaced, fingerprint, statistics

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Challenges:
    """Settings of every dataset that make its training rows harder; validation and test stay clean.

    A dataset that inherits from it defines `training_counts`, and returns `self.apply(data)` from `load`. What is drawn
    for a row depends on `challenge_seed` and the row alone: a smaller share of rows, or of wrong labels, is a part of a
    larger one. Labels are wrong for evaluators only, since a pretext task sees none.

    Raises ValueError for what the samples, or the lack of labels, make impossible.
    """

    subset: Annotated[float, Interval(gt=0, le=1)] = 1.0  # share of the training rows that is kept
    stratified: bool = True  # whether every class keeps that share of its own rows, one at least
    imbalance: Annotated[float, Ge(1)] = 1.0  # share of its rows that the first class keeps, over that of the last
    corrupt: Literal["none", "salt_and_pepper", "noise", "blur", "jpeg", "occlusion", "mixed"] = "none"
    strength: Annotated[int, Interval(ge=1, le=5)] | None = None  # of the corruption; None: drawn for each image
    missing: Share = 0.0  # probability of each part of an image to be absent, and black
    missing_part: Literal["pixels", "patches", "channels"] = "pixels"
    label_noise: Share = 0.0  # probability of each label to be wrong
    label_noise_kind: Literal["symmetric", "pairwise"] = "symmetric"  # any other class, or the next one
    challenge_seed: Annotated[int, Ge(0)] = 0  # of all these draws, not of a run: runs of other seeds see the same data

    samples: ClassVar[Samples]

    def __post_init__(self) -> None:
        self.require_possible(len(self.training_counts) > 1, self.has_labels)

    @property
    def training_counts(self) -> Sequence[int]:
        """Training rows a class before any challenge, or one number if they have no labels."""
        raise NotImplementedError(f"{type(self).__name__} says no training_counts: rows a class, or one number")

    @property
    def has_labels(self) -> bool:
        """Whether evaluators have labelled rows to fit on."""
        return len(self.training_counts) > 1

    @property
    def rows(self) -> int:
        """How many training rows there will be."""
        tail = long_tail(self.training_counts, self.imbalance)
        return sum(shares(tail if self.stratified else [sum(tail)], self.subset))

    @property
    def changes_rows(self) -> bool:
        return self.subset < 1 or self.imbalance > 1

    @property
    def changes_images(self) -> bool:
        return self.corrupt != "none" or self.missing > 0

    def require_possible(self, by_class: bool, labelled: bool) -> None:
        """`by_class`: whether the training rows have labels. Raises ValueError with what to type."""
        kind, channels = self.samples.kind, self.samples.shape[0]
        if self.changes_images and kind != "image":
            key = "corrupt" if self.corrupt != "none" else "missing"
            given = f"{key}: given {getattr(self, key)}, which is of images, and the samples are {kind}"
            raise ValueError(f"{given}; leave dataset.{key} out")
        if self.corrupt != "none" and channels not in (1, 3):
            given = f"corrupt: given {self.corrupt}, which is of 1 or 3 channels, and the images have {channels}"
            raise ValueError(f"{given}; leave dataset.corrupt out")
        if self.missing and self.missing_part == "channels" and channels == 1:
            given = "missing_part: given channels, and the images have one, so that some would be all black"
            raise ValueError(f"{given}; type dataset.missing_part=pixels or patches")
        if self.imbalance > 1 and not by_class:
            given = f"imbalance: given {self.imbalance:g}, and the training rows have no labels"
            raise ValueError(f"{given}; leave dataset.imbalance out")
        if self.label_noise and not labelled:
            given = f"label_noise: given {self.label_noise:g}, and there are no labelled rows to fit on"
            raise ValueError(f"{given}; leave dataset.label_noise out")

    def apply(self, data: Data, measured: int = 10_000) -> Data:
        """The data with its training rows challenged, and the bank: if it is of other rows, none of them is left out.

        `measured`: rows, at most, of which mean and deviation are taken. Raises ValueError as the constructor does.
        """
        if not (self.changes_rows or self.changes_images or self.label_noise):
            return data
        bank, train, n = data.bank, data.train, len(data.train)
        y = None if bank is None else bank.y
        own = bank is not None and bank.x is train
        self.require_possible(own and y is not None, y is not None)
        rng = torch.Generator().manual_seed(self.challenge_seed)
        orders, seeds = [torch.randperm(n, generator=rng) for _ in range(2)], draw_seeds(n, rng)
        index = torch.arange(n)
        if self.changes_rows:
            index = self.kept_rows(*orders, y if own else None, data.classes)
            train = in_memory(Subset(train, index))
        if self.changes_images:
            train = self.changed(train, seeds[index])
        if bank is not None:
            y = self.mislabelled(y, len(data.classes), rng)
            if own:
                kinds = (bank.targets, bank.tokens)
                further = [{name: each[index] for name, each in known.items()} for known in kinds]
                y = None if y is None else y[index]
                bank = Split(train, y, *further)
            else:
                seeds = draw_seeds(len(bank.x), rng)
                bank = replace(bank, x=self.changed(bank.x, seeds) if self.changes_images else bank.x, y=y)
        mean, std = data.mean, data.std
        if train is not data.train and self.samples.kind == "image":
            mean, std = statistics(train, measured)
        known = [torch.tensor(list(data.fingerprint.encode()), dtype=torch.uint8), index]
        known += [Subset(each, evenly_spaced(each, HASHED)) for each in (train, *([bank.x] if bank else []))]
        known += [] if y is None else [y]
        return replace(data, train=train, bank=bank, mean=mean, std=std, fingerprint=fingerprint(*known))

    def kept_rows(
        self, order: Int[Tensor, " n"], other: Int[Tensor, " n"], y: Int[Tensor, " n"] | None, classes: Sequence[str]
    ) -> Int[Tensor, " k"]:
        """Sorted rows that are kept: of each class the first in `order`, and of these, if a subset is not stratified,
        the first in the `other` order. Warns of a class of which none is left."""
        y = torch.zeros_like(order) if y is None else y.cpu()
        counts = y.bincount(minlength=len(classes)).tolist()
        tail, labels = long_tail(counts, self.imbalance), y[order]
        kept = torch.zeros(len(y), dtype=torch.bool)
        of_classes = order[labels.argsort(stable=True)].split(counts)
        for rows, count in zip(of_classes, shares(tail, self.subset) if self.stratified else tail, strict=True):
            kept[rows[:count]] = True
        if not self.stratified:
            kept[other[kept[other]][shares([sum(tail)], self.subset)[0] :]] = False
        left = y[kept].bincount(minlength=len(counts)).tolist()
        if lost := [name for name, before, now in zip(classes, counts, left, strict=False) if before and not now]:
            logger.warning("no training row is left of %s; type dataset.stratified=true", ", ".join(lost))
        return kept.nonzero().flatten()

    def mislabelled(self, y: Int[Tensor, " n"] | None, classes: int, rng: torch.Generator) -> Int[Tensor, " n"] | None:
        """Labels, each of them wrong with the probability that was asked for."""
        if y is None or not self.label_noise:
            return y
        wrong = torch.rand(len(y), generator=rng) < self.label_noise
        shift = torch.randint(1, classes, (len(y),), generator=rng) if self.label_noise_kind == "symmetric" else 1
        return torch.where(wrong, (y.cpu() + shift) % classes, y.cpu())

    def changed(self, rows: Rows, seeds: Int[Tensor, " n"]) -> Rows:
        return in_memory(ChangedRows(rows, seeds, self.corrupt, self.strength, self.missing, self.missing_part))


def long_tail(counts: Sequence[int], imbalance: float) -> list[int]:
    """Rows of each class in a long tail, one at least of a class that has any: n / imbalance^(c / (C - 1)).

    Rounded down as in published code: CIFAR-10 keeps 12,406 rows at a factor of 100.
    """
    last = max(1, len(counts) - 1)
    return [max(int(n / imbalance ** (label / last)), min(n, 1)) for label, n in enumerate(counts)]


def shares(counts: Sequence[int], share: float) -> list[int]:
    """A share of each count, one at least of what is more than none."""
    return [max(round(share * n), min(n, 1)) for n in counts]
