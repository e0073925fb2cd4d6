"""Datasets of recordings: what audio_folder, manifest, speech_commands and librispeech share."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Rows, Samples, Split
from ssl_runner.data.audio_files.cache import load_clips
from ssl_runner.data.audio_files.plan import SHOWN, Recording, plan_clips
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.places import expand_home
from ssl_runner.data.rows import HASHED, Share, Subset, evenly_spaced, fingerprint, statistics
from ssl_runner.errors import are, plural, printable

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class Recordings(Challenges):
    """Recordings as clips of one channel, rate and length; longer ones are cut into rows, shorter ones padded.

    All rows of a recording are in one part. A subclass defines `find`. Raises FileNotFoundError for a place that does
    not exist or holds no training recording, ValueError if too many files cannot be read.
    """

    root: str
    seconds: Annotated[float, Interval(ge=0.1, le=60)] = 1.0  # of a clip
    rate: Annotated[int, Interval(ge=1000, le=96000)] = 16000  # Hz; recordings of other rates are resampled
    validation: Share = 0.1  # of the training recordings, if there is no such part
    test: Share = 0.1  # the same
    split_seed: Annotated[int, Ge(0)] = 0  # of these shares, not of a run: runs of other seeds see the same split
    max_broken: Annotated[int, Ge(0)] = 10  # unreadable files that are named and left out; one more is an error
    cache: bool | str = True  # folder of decoded clips; true for ~/.cache/ssl_runner, false for memory alone

    def find(self, root: Path) -> Sequence[Recording]:
        raise NotImplementedError(f"{type(self).__name__}.find")

    def __post_init__(self) -> None:
        place, shown = expand_home(self.root), printable(self.root)
        if not place.exists():
            needs = "dataset=utterances needs neither files nor network"
            raise FileNotFoundError(
                f"dataset.root={shown} is not there (looked at {printable(place.absolute())}); "
                f"type dataset.root=PLACE; {needs}"
            )
        self._folder = self.folder(place)
        shares = {"test": self.test, "validation": self.validation}
        length = {"rate": self.rate, "length": self.samples.shape[1]}
        plan = self._plan = plan_clips(self._folder, self.find(place), **length, shares=shares, seed=self.split_seed)
        self.check_broken(plan.broken)
        self._learnt = plan.learnt
        if not len(self._learnt):
            raise FileNotFoundError(
                f"dataset.root={shown} holds no training recordings; type dataset.root=PLACE of some"
            )
        self.targets = ("speaker",) if plan.speakers else ()
        super().__post_init__()

    def check_broken(self, broken: Mapping[str, str]) -> None:
        """Raises ValueError for too many files that cannot be read."""
        if len(broken) > self.max_broken:
            named = "; ".join(printable(f"{file} ({why})") for file, why in list(broken.items())[:3])
            more = f"more than max_broken={self.max_broken} recordings cannot be read: {named}"
            raise ValueError(f"{more}. Mend or remove them, or type dataset.max_broken={len(broken)}")

    def folder(self, place: Path) -> Path:
        """What the names of files are relative to."""
        return place

    @property
    def samples(self) -> Samples:
        return Samples("audio", (1, round(self.seconds * self.rate)), rate=self.rate)

    def read_as(self, samples: Samples, assets: Mapping[str, bytes]) -> "Recordings":
        """The same recordings, heard as an encoder's own were: at its rate, in clips of its length."""
        if samples.kind != "audio" or samples == self.samples:
            return self
        return replace(self, rate=samples.rate, seconds=samples.shape[1] / samples.rate)

    @property
    def has_labels(self) -> bool:
        return bool(self._plan.classes)

    @property
    def training_counts(self) -> Sequence[int]:
        plan = self._plan
        some = not plan.classes or "unlabelled" in plan.parts
        return [len(self._learnt)] if some else plan.y[self._learnt].bincount(minlength=len(plan.classes)).tolist()

    def load(self) -> Data:
        """Maps the cache, or decodes all recordings and writes it. Silent clips are left out, and counted.

        Raises ValueError if too many files cannot be decoded, or all training clips are silent.
        """
        plan = self._plan
        rows, undecoded, silent = load_clips(self._folder, plan, self.rate, self.samples.shape[1], self.cache)
        broken = {**plan.broken, **undecoded}
        self.check_broken(broken)
        for file, why in broken.items():
            logger.warning("cannot read %s (%s): it is left out", printable(file), why)
        sound = torch.ones(len(rows), dtype=torch.bool)
        sound[silent] = False
        lost = sum(count for file, count in zip(plan.files, plan.counts, strict=True) if file in undecoded)
        parts = {part: index[sound[index]] for part, index in plan.parts.items()}
        learnt = self._learnt = plan.learnt[sound[plan.learnt]]
        if not len(learnt):
            raise ValueError(
                f"all training clips of {printable(self.root)} are silent or broken; type dataset.root=PLACE of others"
            )
        logger.info("recordings: %s", self.describe(parts, len(silent) - lost))
        splits = {part: self.split_of(rows, index) for part, index in parts.items() if len(index)}
        bank = splits.get("train") if plan.classes else None
        train = Subset(rows, learnt) if bank is None or len(learnt) > len(bank.x) else bank.x
        few = train[evenly_spaced(train, HASHED)]
        digest = fingerprint(few, plan.y, *(index for index in parts.values()))
        measured = (bank, splits.get("validation"), splits.get("test"))
        return self.apply(Data(train, *measured, *statistics(train, HASHED), plan.classes, digest))

    def split_of(self, rows: Rows, index: Int[Tensor, " n"]) -> Split:
        speaker = {"speaker": self._plan.speaker[index]} if self._plan.speakers else {}
        return Split(Subset(rows, index), self._plan.y[index] if self._plan.classes else None, speaker)

    def describe(self, parts: dict[str, Tensor], silent: int) -> str:
        """What was found, in one line."""
        plan = self._plan
        counts = ", ".join(f"{part} {len(index):,}" for part, index in parts.items())
        names = ", ".join(plan.classes[:SHOWN]) + ", ..." * (len(plan.classes) > SHOWN)
        classes = f"{plural(len(plan.classes), 'class')}: {names}" if plan.classes else "no labels"
        speakers = f"; {plural(len(plan.speakers), 'speaker')}" if plan.speakers else ""
        what = f"{plural(len(plan.files), 'file')} as clips of {self.seconds:g} s at {self.rate:,} Hz"
        said = [*(f"{count:,} {words}" for words, count in plan.remarks.items())]
        said += [f"{plural(silent, 'clip')} {are(silent)} silent, and left out"] * (silent > 0)
        return f"{counts}; {classes}{speakers}; {what}{''.join(f'; {each}' for each in said)}"
