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
from ssl_runner.data.text_files.listing import text_files
from ssl_runner.data.text_files.reading import Found, Text, Unit, cut_text, read_texts
from ssl_runner.data.text_files.texts import Texts, assets_of, digest_of
from ssl_runner.errors import are, plural

log = logging.getLogger("ssl_runner")

Part = list[Text]


@dataclass(kw_only=True)
class TextFolder(Texts, Challenges):
    """Text files of a folder, or one file. Folders below it are classes of .txt files, a column is that of tables.

    train, valid and test are parts if files or a column `split` are called so, and folders of which one is train; else
    seeded shares of every class, or of all texts without classes, are held out, test first. Without classes there is
    no bank.
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
        self._files, self._others = text_files(self._root)
        super().__post_init__()

    @cached_property
    def found(self) -> Found:
        stamps = tuple((str(file), file.stat().st_mtime_ns) for file in self._files)
        return read_once(self._root, stamps, self.unit, self.text, self.label)

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Texts by part: train, and validation and test if they can be had."""
        found = list(self.found.texts)
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
                rest, out = stratified_split(self.numbers_of(train), getattr(self, name), self.split_seed)
                parts["train"], held = [train[i] for i in rest], [train[i] for i in out]
            parts[name] = held
        if not parts["train"]:
            raise ValueError(f"{self.root} has no training texts: all are of validation or test; rename a file")
        return parts

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.learnable)

    @cached_property
    def learnable(self) -> Part:
        """Texts to learn from, of which shares may be held out."""
        return [each for each in self.found.texts if each.part in (None, "train")]

    @property
    def training_counts(self) -> Sequence[int]:
        counts = Counter(each.label for each in self.parts["train"])
        return [counts[name] for name in self.classes] or [len(self.parts["train"])]

    def load(self) -> Data:
        """Reads and tokenises all texts, and says what was found."""
        parts = self.parts
        tokenizer = self.fitted_tokenizer([each.text for each in parts["train"]])
        rows = {name: self.rows_of(tokenizer, [each.text for each in part], name) for name, part in parts.items()}
        if self._others:
            others = ", ".join(f"{count} {suffix}" for suffix, count in self._others.most_common(5))
            log.info("left out: %s", others)
        log.info("%s: %s; tokens: %s", self.root, self.describe(), f"{tokenizer.vocabulary} ids")
        splits = {
            name: Split(rows[name], self.labels_of(name) if self.classes else None) if part else None
            for name, part in parts.items()
        }
        digest = fingerprint(*rows.values(), digest_of(tokenizer))
        held = (splits["train"] if self.classes else None, splits["validation"], splits["test"])
        known = {"classes": self.classes, "fingerprint": digest, "assets": assets_of(tokenizer)}
        return self.apply(Data(rows["train"], *held, **known))

    def describe(self) -> str:
        """What was found, in a line."""
        parts = ", ".join(f"{len(part):,} {name}" for name, part in self.parts.items() if part)
        classes, blank = describe_classes(self.learnable), self.found.blank
        rows = f", {plural(blank, 'row')} without a text {are(blank)} left out" if blank else ""
        alone = "".join(f", {name}/ is no part without a train/" for name in self.found.alone)
        return f"{plural(len(self._files), 'file')}, {parts} texts, {classes}{rows}{alone}"

    def numbers_of(self, part: Part) -> Int[Tensor, " n"]:
        """The class of each text as a number; 0 of all if there are no classes."""
        known = {name: number for number, name in enumerate(self.classes)}
        return torch.tensor([known.get(str(each.label), 0) for each in part], dtype=torch.int64)

    def labels_of(self, name: str) -> Int[Tensor, " n"]:
        """Classes of a part. Raises ValueError for a text that has none, and a class that no training text is of."""
        part = self.parts[name]
        if without := sum(each.label is None for each in part):
            raise ValueError(
                f"{self.root}: {without:,} of the {len(part):,} texts of {name} have no class; leave them out"
            )
        if strange := sorted({str(each.label) for each in part} - {*self.classes}):
            raise ValueError(
                f"{self.root}: no training text is of the classes {', '.join(strange[:5])}; leave them out"
            )
        return self.numbers_of(part)


def classes_of(texts: Part) -> tuple[str, ...]:
    """Names of classes; none if a text has none, or all have one."""
    named = {each.label for each in texts}
    return () if None in named or len(named) < 2 else tuple(sorted(map(str, named)))


def describe_classes(texts: Part) -> str:
    """How many there are, and why there are none."""
    if classes := classes_of(texts):
        return f"{len(classes)} classes"
    named = {each.label for each in texts} - {None}
    without, total = sum(each.label is None for each in texts), len(texts)
    if named and without:
        why = f", as {without:,} of the {total:,} training texts have none: leave these out, or give them one"
    else:
        why = f", as all training texts are of one, {named.pop()}" if named else ""
    return f"no classes{why}"


@lru_cache(maxsize=2)
def read_once(
    root: Path, stamps: tuple[tuple[str, int], ...], unit: Unit, text: str | None, label: str | None
) -> Found:
    """The texts of files; jobs of a sweep share them. `stamps`: the files, and when each was changed."""
    return read_texts(root, [Path(name) for name, _ in stamps], unit, text, label)
