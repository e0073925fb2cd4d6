"""Folders of image files: which files there are, in natural order, and which folders mean a part or a class."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.data.image_files.decode import SUFFIXES
from ssl_runner.data.rows import stratified_split

PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def natural_key(name: str) -> tuple:
    """A sort key that has 9 before 10 and a beside A."""
    # By place, every second one being a number: ² and ١ are digits too, to Python, and no numbers of ours.
    return [int(t) if i % 2 else t for i, t in enumerate(re.split(r"([0-9]+)", name.casefold()))], name


def list_images(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> list[str]:
    """Paths below a folder, `/` between names, in natural order, of image files by their suffix, in any case.

    Hidden files and folders are left out. Links are followed; one to a folder that lies above it is not.
    above: device and inode of the folders above.
    """
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return []
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: natural_key(e.name))
    paths: list[str] = []
    for entry in visible:
        if entry.is_dir():
            paths += [f"{entry.name}/{path}" for path in list_images(folder / entry.name, above | {here})]
        elif entry.name.lower().endswith(SUFFIXES):
            paths.append(entry.name)
    return paths


def find_parts(root: Path) -> dict[str, str]:
    """Folders by part, `train` among them, or "" for `train` if the root is one tree.

    Raises ValueError if two folders are the same part, or if there are others and no `train`.
    """
    folders: dict[str, str] = {}
    for name in sorted(each.name for each in root.iterdir() if each.name.lower() in PARTS and each.is_dir()):
        part = PARTS[name.lower()]
        if part in folders:
            raise ValueError(f"{root} holds {folders[part]}/ and {name}/, both of them {part}; leave one")
        folders[part] = name
    if folders and "train" not in folders:
        raise ValueError(
            f"{root} holds {', '.join(f'{name}/' for name in folders.values())} and no train/; "
            f"call the folder of training images train, or give another dataset.root"
        )
    return folders or {"train": ""}


def class_names(paths: Sequence[str]) -> list[str]:
    """The topmost folder of each image, "" of each if they lie in none.

    Raises ValueError if some images lie in folders and some beside them.
    """
    names = [path.partition("/")[0] if "/" in path else "" for path in paths]
    if "" in names and any(names):
        raise ValueError(
            f"{names.count('')} images lie beside the class folders ({paths[names.index('')]} is one); "
            f"move them into a class, or set dataset.labels=false"
        )
    return names


@dataclass(frozen=True)
class RowPlan:
    """Which file is which row, before any is opened."""

    files: list[str]  # below the root, `/` between names
    parts: dict[str, Int[Tensor, " _"]]  # rows by part: train, and validation and test if there are some
    classes: tuple[str, ...]  # none if there are no labels
    y: Int[Tensor, " n"]  # class of each row, 0 if there are no labels
    ignored: tuple[str, ...]  # folders of parts that have no labels to be measured on


def plan_rows(root: Path, *, labels: bool, shares: Mapping[str, float], split_seed: int) -> RowPlan:
    """Rows, classes and parts of the images below a root.

    labels: whether folders are classes. shares: of the training rows that a part takes if it has no folder, in the
    order in which they are taken. Raises ValueError if folders contradict each other.
    """
    folders = find_parts(root)
    paths = {part: list_images(root / folder) for part, folder in folders.items()}
    names = {part: class_names(each) if labels else [""] * len(each) for part, each in paths.items()}
    classes = tuple(sorted(set(names["train"]), key=natural_key))
    classes = classes if len(classes) > 1 else ()
    number = {name: i for i, name in enumerate(classes)}
    measured = [part for part in folders if part != "train" and classes and any(names[part])]
    for part in measured:
        unknown = sorted(set(names[part]) - set(classes), key=natural_key)
        if unknown:
            raise ValueError(
                f"{root / folders[part] / unknown[0]} is no class of training images ({', '.join(classes[:5])}"
                f"{', ...' * (len(classes) > 5)}); call folders alike, or set dataset.labels=false"
            )
    files: list[str] = []
    rows: dict[str, Tensor] = {}
    for part in ("train", *measured):
        rows[part] = torch.arange(len(files), len(files) + len(paths[part]))
        files += [f"{folders[part]}/{path}".lstrip("/") for path in paths[part]]
    y = torch.tensor([number.get(name, 0) for part in rows for name in names[part]], dtype=torch.int64)
    for part, share in shares.items():
        if part not in folders and classes:
            rest, held = stratified_split(y[rows["train"]], share, split_seed)
            rows |= {part: rows["train"][held]} if len(held) else {}
            rows["train"] = rows["train"][rest]
    return RowPlan(files, rows, classes, y, tuple(folder for part, folder in folders.items() if part not in rows))
