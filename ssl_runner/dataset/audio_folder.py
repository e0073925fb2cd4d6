"""Recordings of your own: any tree of files, with or without class folders, with or without train/, val/ and test/."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_runner.data.audio_files.listing import list_recordings
from ssl_runner.data.audio_files.plan import Recording
from ssl_runner.data.audio_files.recordings import Recordings
from ssl_runner.data.image_files.folders import PARTS
from ssl_runner.errors import printable

logger = logging.getLogger("ssl_runner")


@dataclass(kw_only=True)
class AudioFolder(Recordings):
    """Recordings of a folder. A folder train/ makes val/, test/ and unlabeled/ beside it parts of their own.

    The folders below a part are its classes; without them, or with one, there are no labels, and no bank.
    Raises ValueError for recordings beside class folders, and for parts without a train/.
    """

    labels: bool = True  # whether folders are classes

    def find(self, root: Path) -> Sequence[Recording]:
        if not root.is_dir():
            raise FileNotFoundError(f"dataset.root={printable(self.root)} is no folder; unpack it, or dataset=manifest")
        files, others = list_recordings(root)
        if others:
            logger.info("left out: %s", ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)))
        tops = {each.name for each in root.iterdir() if each.is_dir() and each.name.lower() in PARTS}
        parts = {PARTS[name.lower()] for name in tops}
        if parts and "train" not in parts:
            named = ", ".join(f"{name}/" for name in sorted(tops))
            raise ValueError(f"{printable(self.root)} holds {named} and no train/; call the folder to learn from train")
        placed = [(file, *(part_of(file) if tops else ("train", file))) for file in files]
        placed = [each for each in placed if each[1]]
        labels = {file: below.partition("/")[0] if "/" in below else "" for file, part, below in placed}
        named = {labels[file] for file, part, _ in placed if part == "train"}
        if not self.labels or len(named) < 2:
            labels = {}
        elif beside := [file for file, part, _ in placed if part != "unlabelled" and not labels[file]]:
            why = f"recordings lie beside the class folders ({printable(beside[0])} is one)"
            raise ValueError(f"{why}; move them into a class, or type dataset.labels=false")
        return [Recording(file, part, labels.get(file) if part != "unlabelled" else None) for file, part, _ in placed]


def part_of(file: str) -> tuple[str, str]:
    """Part of a file by its topmost folder, "" if it is in none, and its name below that."""
    top, _, below = file.partition("/")
    return PARTS.get(top.lower(), "") if below else "", below
