"""Texts of your own: .txt, .jsonl, .csv, .tsv, .parquet, with classes or none, with train, valid and test or none."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.places import expand_home
from ssl_runner.data.rows import Share, fingerprint, stratified_split
from ssl_runner.data.text_files.reading import Text, Unit, cut_text, read_texts, text_files
from ssl_runner.data.text_files.texts import Texts, assets_of, digest_of

log = logging.getLogger("ssl_runner")

Part = list[Text]


@dataclass(kw_only=True)
class TextFolder(Texts, Challenges):
    """Text files of a folder, or one file. Folders below it are classes of .txt files, a column is that of tables.

    train, valid and test are parts if files, folders or a column `split` are called so; else seeded shares of every
    class, or of all texts without classes, are held out, test first. Without classes there is no bank.
    Raises FileNotFoundError for a folder without such files, ValueError for a file that cannot be read.
    """

    root: str
    unit: Unit = "line"  # of .txt: line, paragraph, file; or chunk: whole files cut into rows of `length` tokens
    text: str | None = None  # column of texts; None for text, sentence, content, ...
    label: str | None = None  # column of classes; None for label, class, category, ...
    validation: Share = 0.1  # of the training texts, if there is no part of it
    test: Share = 0.1  # the same
    split_seed: Annotated[int, Ge(0)] = 0  # of these shares, not of a run

    def __post_init__(self) -> None:
        self.check_tokenizer()
        self._root = expand_home(self.root)
        self._files = text_files(self._root)
        super().__post_init__()

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Texts by part: train, and validation and test if they can be had."""
        stamps = tuple((str(file), file.stat().st_mtime_ns) for file in self._files)
        found = list(read_once(self._root, stamps, self.unit, self.text, self.label))
        if not found:
            raise ValueError(f"{self.root} has no text but empty ones; type dataset.root=FOLDER")
        if self.unit == "chunk":
            found = [
                Text(piece, each.part, each.label)
                for each in found
                for piece in cut_text(each.text, self.tokenizer, self.length)
            ]
        parts = {"train": [each for each in found if each.part in (None, "train")]}
        for name in ("test", "validation"):
            held = [each for each in found if each.part == name]
            if not held:
                train = parts["train"]
                rest, out = stratified_split(numbers_of(train), getattr(self, name), self.split_seed)
                parts["train"], held = [train[i] for i in rest], [train[i] for i in out]
            parts[name] = held
        if not parts["train"]:
            raise ValueError(f"{self.root} has no training texts: all are of validation or test; rename a file")
        return parts

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the training texts' classes; none if a text has none."""
        labels = [each.label for each in self.parts["train"]]
        return () if None in labels else tuple(sorted({str(each) for each in labels}))

    @property
    def training_counts(self) -> Sequence[int]:
        counts = Counter(each.label for each in self.parts["train"])
        return [counts[name] for name in self.classes] or [len(self.parts["train"])]

    def load(self) -> Data:
        """Reads and tokenises all texts, and says what was found."""
        parts = self.parts
        tokenizer = self.fitted_tokenizer([each.text for each in parts["train"]])
        rows = {name: self.rows_of(tokenizer, [each.text for each in part], name) for name, part in parts.items()}
        log.info("%s: %s; tokens: %s", self.root, self.describe(), f"{tokenizer.vocabulary} ids")
        splits = {
            name: Split(rows[name], self.classes_of(part) if self.classes else None) if part else None
            for name, part in parts.items()
        }
        digest = fingerprint(*rows.values(), digest_of(tokenizer))
        held = (splits["train"] if self.classes else None, splits["validation"], splits["test"])
        known = {"classes": self.classes, "fingerprint": digest, "assets": assets_of(tokenizer)}
        return self.apply(Data(rows["train"], *held, **known))

    def describe(self) -> str:
        """What was found, in a line."""
        parts = ", ".join(f"{len(part):,} {name}" for name, part in self.parts.items() if part)
        classes = f"{len(self.classes)} classes" if self.classes else "no classes"
        return f"{len(self._files)} files, {parts} texts, {classes}"

    def classes_of(self, part: Part) -> Int[Tensor, " n"]:
        """Raises ValueError for a class that no training text is of."""
        known = {name: number for number, name in enumerate(self.classes)}
        strange = sorted({str(each.label) for each in part} - known.keys())
        if strange:
            raise ValueError(
                f"{self.root}: no training text is of the classes {', '.join(strange[:5])}; leave them out"
            )
        return torch.tensor([known[str(each.label)] for each in part])


def numbers_of(part: Part) -> Int[Tensor, " n"]:
    """The class of each text as a number; 0 of all if one has none."""
    names = sorted({str(each.label) for each in part})
    if any(each.label is None for each in part):
        return torch.zeros(len(part), dtype=torch.int64)
    number = {name: place for place, name in enumerate(names)}
    return torch.tensor([number[str(each.label)] for each in part], dtype=torch.int64)


@lru_cache(maxsize=2)
def read_once(
    root: Path, stamps: tuple[tuple[str, int], ...], unit: Unit, text: str | None, label: str | None
) -> tuple[Text, ...]:
    """The texts of files; jobs of a sweep share them. `stamps`: the files, and when each was changed."""
    return tuple(read_texts(root, [Path(name) for name, _ in stamps], unit, text, label))
