"""Labelled images beside training data without labels: a small folder that evaluators fit and measure on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Rows, Split
from ssl_runner.data.image_files.cache import load_images
from ssl_runner.data.image_files.folders import Labels, RowPlan, plan_rows
from ssl_runner.data.image_files.names import Names
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.places import expand_home
from ssl_runner.data.rows import HASHED, Subset, evenly_spaced, fingerprint
from ssl_runner.errors import printable

logger = logging.getLogger("ssl_runner")
Measured = tuple[Split | None, Split | None, Split | None]  # bank, validation and test


@dataclass(frozen=True)
class LabelledFolder:
    """Bank, validation and test, none of which is learnt from."""

    folder: Path
    plan: RowPlan

    def load(
        self, how: Mapping[str, Any], cache: bool | str, stream: bool | Literal["auto"], training: str
    ) -> tuple[Measured, tuple[str, ...], str]:
        """Bank, validation and test, the classes, and one fingerprint of them and of `training`, that of its rows.

        how: settings of `Source`, as in training.
        Raises OSError and ValueError as `load_images`, and ValueError if no image of the bank can be read.
        """
        for line in self.plan.warnings:
            logger.warning(line)
        how = {**how, "pixels": replace(how["pixels"], remarks={})}
        source = Source(self.folder.absolute(), Names(self.plan.files), **how)
        rows, index, digest = read_rows(source, self.plan, cache, stream)
        if not len(index["train"]):
            raise ValueError(f"no image of dataset.labelled={printable(str(self.folder))} can be read; name another")
        counts = {"bank": len(index["train"])} | {part: len(each) for part, each in index.items() if part != "train"}
        logger.info("labelled, measured on and not learnt from: %s", self.plan.describe(counts))
        parts = {part: Split(select(rows, i), self.plan.y[i]) for part, i in index.items() if len(i)}
        both = (torch.tensor(list(each.encode()), dtype=torch.uint8) for each in (training, digest))
        measured = parts["train"], parts.get("validation"), parts.get("test")
        return measured, self.plan.classes, fingerprint(*both, self.plan.y)


def plan_labelled(
    place: str, root: Path | None, *, labels: Labels, shares: Mapping[str, float], split_seed: int
) -> LabelledFolder:
    """What `dataset.labelled` names. root: where training images are read, if that is a folder.

    Raises FileNotFoundError if it is no folder, ValueError if it has no classes, or if training images are among its
    own.
    """
    folder, given = expand_home(place), f"dataset.labelled={printable(place)}"
    if not folder.is_dir():
        looked = f"looked at {printable(str(folder.absolute()))}{', a file: unpack it' if folder.is_file() else ''}"
        raise FileNotFoundError(f"{given} is no folder ({looked}); type dataset.labelled=FOLDER")
    if not labels:
        raise ValueError(f"labels: given false, and {given} is there for its labels; leave one of them out")
    plan = plan_rows(folder, labels=labels, shares=shares, split_seed=split_seed, learnt=False)
    if not plan.classes:
        raise ValueError(f"{given} has no classes ({plan.why_unlabelled}); name a folder with a folder of each class")
    if root is not None and root.resolve().is_relative_to(folder.resolve()):
        inside = root.resolve().relative_to(folder.resolve()).as_posix()
        if inside == "." or any(file.startswith(f"{inside}/") for file in plan.files):
            raise ValueError(f"{given} holds dataset.root, and what is measured on is not learnt from; name another")
    return LabelledFolder(folder, plan)


def read_rows(
    source: Source, plan: RowPlan, cache: bool | str, stream: bool | Literal["auto"]
) -> tuple[Rows, dict[str, Int[Tensor, " _"]], str]:
    """Rows of all files, those that could be read by part, and a fingerprint. Raises as `load_images`."""
    rows = load_images(source, cache, stream)
    readable = torch.ones(len(plan.files), dtype=torch.bool)
    readable[list(source.broken)] = False
    index = {part: each[readable[each]] for part, each in plan.parts.items()}
    found = plan.y[index["train"]].bincount(minlength=len(plan.classes))
    if lost := [name for name, n in zip(plan.classes, found, strict=False) if n == 0]:
        logger.warning("no training image of these classes can be read: %s", ", ".join(lost))
    # Of some images only: a digest of all of a stream would take as long as an epoch.
    seen = rows[evenly_spaced(rows, HASHED)]
    known = torch.frombuffer(bytearray.fromhex(source.signatures[1]), dtype=torch.uint8)
    return rows, index, fingerprint(known, seen, *index.values())


def select(rows: Rows, index: Int[Tensor, " n"]) -> Rows:
    """Rows of an ascending index, one or more, uncopied: a view if they lie side by side, else a Subset."""
    first, last = int(index[0]), int(index[-1])
    if isinstance(rows, Tensor) and last - first + 1 == len(index):
        return rows[first : last + 1]
    return Subset(rows, index)
