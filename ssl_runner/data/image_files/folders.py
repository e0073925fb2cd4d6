"""Trees of image files: what lies in them, in an order that people expect, and which folders mean a part or a class."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.data.split import stratified

PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def natural(name: str) -> tuple:
    """A sort key that has 9 before 10 and a beside A."""
    # By place, every second one being a number: ² and ١ are digits too, to Python, and no numbers of ours.
    return [int(t) if i % 2 else t for i, t in enumerate(re.split(r"([0-9]+)", name.casefold()))], name


def images(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Paths below a folder, `/` between names, in natural order, of files of the suffixes given, in any case.

    Hidden files and folders are left out. Links are followed; one to a folder that lies above it is not.
    """
    found: list[str] = []

    def walk(at: str, below: str, above: frozenset) -> None:
        stat = Path(at).stat()
        here = (stat.st_dev, stat.st_ino)
        if here in above:
            return
        with os.scandir(at) as entries:
            listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: natural(e.name))
        for entry in listed:
            if entry.is_dir():
                walk(entry.path, f"{below}{entry.name}/", above | {here})
            elif os.path.splitext(entry.name)[1].lower() in suffixes:  # noqa: PTH122  a Path a file is slow
                found.append(below + entry.name)

    walk(str(folder), "", frozenset())
    return found


def parts(root: Path) -> dict[str, str]:
    """Folders by part, `train` among them, or no folder for `train` where the root is one tree.

    Raises:
        ValueError: two folders are the same part, or there are others and no `train`.
    """
    named: dict[str, str] = {}
    for folder in sorted(root.iterdir()):
        part = PARTS.get(folder.name.lower())
        if part is None or not folder.is_dir():
            continue
        if part in named:
            raise ValueError(f"{root} holds {named[part]}/ and {folder.name}/, both of them {part}; leave one")
        named[part] = folder.name
    if named and "train" not in named:
        raise ValueError(
            f"{root} holds {', '.join(f'{name}/' for name in named.values())} and no train/; "
            f"call the folder of training images train, or give another dataset.root"
        )
    return named or {"train": ""}


def classes(paths: Sequence[str]) -> list[str] | None:
    """The class of each image: its topmost folder. None where there are no folders, or one.

    Raises:
        ValueError: some images lie in folders and some beside them.
    """
    heads = [path.partition("/")[0] if "/" in path else "" for path in paths]
    kinds = set(heads)
    if "" in kinds and len(kinds) > 1:
        raise ValueError(
            f"{heads.count('')} images lie beside the class folders ({paths[heads.index('')]} is one); "
            f"move them into a class, or set dataset.labels=false"
        )
    return heads if len(kinds) > 1 else None


@dataclass(frozen=True)
class Plan:
    """Which file is which row, before any is opened."""

    files: list[str]  # below the root, `/` between names
    parts: dict[str, Int[Tensor, " _"]]  # rows by part: train, and validation and test where there are some
    classes: tuple[str, ...]  # none where there are no labels
    y: Int[Tensor, " n"]  # class of each row, 0 where there are no labels
    ignored: tuple[str, ...]  # folders of parts that have no labels to be measured on


def plan(root: Path, suffixes: Collection[str], *, labels: bool, shares: Mapping[str, float], split_seed: int) -> Plan:
    """Rows, classes and parts of the images below a root.

    Args:
        labels: whether folders are classes.
        shares: of the training rows that a part takes where it has no folder, in the order in which they are taken.

    Raises:
        ValueError: folders contradict each other.
    """
    folders = parts(root)
    found = {part: images(root / folder, suffixes) for part, folder in folders.items()}
    kinds = {part: classes(paths) if labels else None for part, paths in found.items()}
    named = kinds["train"] or []
    known = tuple(sorted(set(named), key=natural))
    number = {name: i for i, name in enumerate(known)}
    measured = [part for part in folders if part != "train" and found[part] and known]
    for part in measured:
        if kinds[part] is None and all("/" in path for path in found[part]):
            kinds[part] = [path.partition("/")[0] for path in found[part]]  # one class is a class beside train's
        strange = sorted(set(kinds[part] or ()) - set(known), key=natural)
        if strange:
            raise ValueError(
                f"{root / folders[part] / strange[0]} is no class of training images ({', '.join(known[:5])}"
                f"{', ...' * (len(known) > 5)}); call folders alike, or set dataset.labels=false"
            )
    files: list[str] = []
    y: list[int] = []
    rows: dict[str, Tensor] = {}
    for part in ["train", *(part for part in measured if kinds[part] is not None)]:
        rows[part] = torch.arange(len(files), len(files) + len(found[part]))
        files += [f"{folders[part]}/{path}".lstrip("/") for path in found[part]]
        y += [number[name] for name in kinds[part] or ()] if known else [0] * len(found[part])
    of = torch.tensor(y, dtype=torch.int64)
    for part, share in shares.items():
        if part not in folders and known:
            rest, held = stratified(of[rows["train"]], share, split_seed)
            rows["train"], rows[part] = rows["train"][rest], rows["train"][held]
    ignored = tuple(folders[part] for part in folders if part not in rows)
    return Plan(
        files, {part: index for part, index in rows.items() if len(index) or part == "train"}, known, of, ignored
    )
