"""Folders of image files: which files are which rows, and which folders mean a part or a class."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.data.image_files.listing import Listing, classify, list_images, natural_key
from ssl_runner.data.rows import stratified_split
from ssl_runner.errors import plural, printable

Labels = bool | Literal["auto"]  # whether folders are classes; auto: unless they are shards
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsup"), "unlabelled"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SHARD = re.compile(r"(shard|part|chunk|batch|split|fold)s?[-_. ]?[0-9]+([-_. ]?of[-_. ]?[0-9]+)?", re.IGNORECASE)
FIRST, SHOWN = 5, 12  # names and reasons that are said, of many


def first_names(names: Collection[str]) -> str:
    """The first few, printable."""
    shown = ", ".join(printable(name) for name in list(names)[:FIRST])
    return f"{shown}, ..." if len(names) > FIRST else shown


def find_parts(root: Path) -> dict[str, str]:
    """Folders by part, `train` among them: "" if the root is one tree.

    Raises ValueError if two folders are the same part, or if there is one to measure on and no `train`.
    """
    folders: dict[str, str] = {}
    for name in sorted(each.name for each in root.iterdir() if each.name.lower() in PARTS and each.is_dir()):
        part = PARTS[name.lower()]
        if part in folders:
            raise ValueError(f"{printable(root)} holds {folders[part]}/ and {name}/, both of them {part}; leave one")
        folders[part] = name
    if not folders.keys() <= {"unlabelled"} and "train" not in folders:
        raise ValueError(
            f"{printable(root)} holds {', '.join(f'{name}/' for name in folders.values())} and no train/; "
            f"call the folder of training images train, or give another dataset.root"
        )
    return {"train": "", **folders}


def class_names(paths: Sequence[str]) -> list[str]:
    """The topmost folder of each image, "" of each if they lie in none.

    Raises ValueError if some images lie in folders and some beside them.
    """
    names = [path.partition("/")[0] if "/" in path else "" for path in paths]
    if "" in names and any(names):
        raise ValueError(
            f"images lie beside the class folders ({printable(paths[names.index('')])} is one); "
            f"move them into a class, or set dataset.labels=false"
        )
    return names


def are_shards(paths: Iterable[str]) -> bool:
    """Whether all topmost folders are called alike by a word that means a piece of a whole, and a number."""
    words = {(match := SHARD.fullmatch(path.partition("/")[0])) and match[1].lower() for path in paths}
    return len(words) == 1 and None not in words


@dataclass(frozen=True)
class RowPlan:
    """Which file is which row, before any is opened."""

    files: list[str]  # below the root, `/` between names
    parts: dict[str, Int[Tensor, " _"]]  # rows by part: train, and unlabelled, validation and test if there are some
    classes: tuple[str, ...]  # printable; none if there are no labels
    y: Int[Tensor, " n"]  # class of each row, 0 if it has none
    folders: Mapping[str, str]  # by part, see find_parts
    why_unlabelled: str  # why there are no classes, if so
    left_out: Counter[str]  # how many, by reason
    warnings: list[str]

    def describe(self, counts: Mapping[str, int]) -> str:
        """Parts with the numbers of images that could be read, classes, and what was left out and why."""
        whole = "bank" if "bank" in counts else "train"  # of labelled images that are not learnt from
        folders = {**self.folders, whole: self.folders["train"]}
        places = {part: f" ({printable(folders[part])}/)" for part in counts if folders.get(part)}
        shares = {part: f" (a share of {whole})" for part in counts if part not in folders}
        parts = ", ".join(f"{part} {n:,}{(places | shares).get(part, '')}" for part, n in counts.items())
        classes = f"{len(self.classes)} classes: {first_names(self.classes)}" if self.classes else self.why_unlabelled
        return f"{parts}; {classes}{self.describe_left_out()}"

    def describe_left_out(self) -> str:
        """`; left out: 3 .txt (no image)`, the most frequent first, or nothing."""
        most = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
        rest = ", ".join(f"{n:,} {reason}" for reason, n in most[:SHOWN])
        more = f", {len(self.left_out) - SHOWN} reasons more" if len(self.left_out) > SHOWN else ""
        return f"; left out: {rest}{more}" if rest else ""


def plan_rows(
    root: Path,
    *,
    labels: Labels,
    shares: Mapping[str, float],
    split_seed: int,
    labelled: Path | None = None,
    learnt: bool = True,
) -> RowPlan:
    """Rows, classes and parts of the images below a root.

    shares: of the training rows that a part takes if it has no folder, in the order in which they are taken. labelled:
    another folder, which has the labels: none of its images is a row here, and there are no classes. learnt: whether
    images without labels are rows. Raises ValueError if folders contradict each other.
    """
    folders = find_parts(root)
    listings = {
        part: list_images(root / name, () if name else folders.values(), labelled) for part, name in folders.items()
    }
    paths = {part: listing.files for part, listing in listings.items()}
    names, why_unlabelled = read_labels(paths, False if labelled else labels)
    why_unlabelled = "no labels, as dataset.labelled has them" if labelled else why_unlabelled
    classes = sorted(set(names["train"]), key=natural_key)
    classes = classes if len(classes) > 1 else []
    measured = [part for part in names if part != "train" and classes and any(names[part])]
    for part in measured:
        unknown = sorted(set(names[part]) - set(classes), key=natural_key)
        if unknown:
            raise ValueError(
                f"{printable(root / folders[part] / unknown[0])} is no class of training images "
                f"({first_names(classes)}); call folders alike, or set dataset.labels=false"
            )
    files: list[str] = []
    rows: dict[str, Tensor] = {}
    for part in ("train", *(["unlabelled"] if "unlabelled" in folders and learnt else []), *measured):
        rows[part] = torch.arange(len(files), len(files) + len(paths[part]))
        files += [f"{folders[part]}/{path}".lstrip("/") for path in paths[part]]
    number = {name: i for i, name in enumerate(classes)}
    y = torch.tensor([number.get(name, 0) for part in rows for name in names[part]], dtype=torch.int64)
    for part, share in shares.items():
        if part not in folders and classes:
            rest, held = stratified_split(y[rows["train"]], share, split_seed)
            rows |= {part: rows["train"][held]} if len(held) else {}
            rows["train"] = rows["train"][rest]
    left_out = sum((each for listing in listings.values() for each in listing.left_out.values()), Counter())
    warnings = [*unused_folders(root, folders, rows, labelled), *unread_folders(folders, listings)]
    warnings += [line for part in names if any(names[part]) for line in vanished(folders[part], listings[part])]
    return RowPlan(files, rows, tuple(map(printable, classes)), y, folders, why_unlabelled, left_out, warnings)


def read_labels(paths: Mapping[str, Sequence[str]], labels: Labels) -> tuple[dict[str, list[str]], str]:
    """The class of each image by part, "" for none, and why there would be none. Raises ValueError as class_names."""
    tops = list(dict.fromkeys(path.partition("/")[0] for path in paths["train"] if "/" in path))
    why = "no labels, as there are no folders of classes" if len(tops) != 1 else "no labels, as there is one folder"
    if labels == "auto" and are_shards(tops):
        why = f"no labels, as folders {first_names(tops)} are pieces of a whole; dataset.labels=true makes them classes"
        labels = False
    elif not labels:
        why = "no labels, as dataset.labels=false"
    return {
        part: class_names(each) if labels and part != "unlabelled" else [""] * len(each) for part, each in paths.items()
    }, why


def unused_folders(root: Path, folders: Mapping[str, str], used: Collection[str], labelled: Path | None) -> list[str]:
    """A line for each part that is not measured on, and one if folders or images beside the parts are read by none."""
    takes = "to measure on it takes class folders in it and in the training images"
    why = "dataset.labelled is measured on" if labelled else takes
    lines = [f"{printable(root / folders[part])} is left out: {why}" for part in folders if part not in used]
    if folders["train"]:
        with os.scandir(root) as entries:
            names = {entry.name for entry in entries if classify(entry) in ("folder", "image")} - {*folders.values()}
        names -= {labelled.resolve().name} if labelled and labelled.resolve().parent == root.resolve() else set()
        where = f"beside {folders['train']}/, which makes {printable(root)} a folder of parts"
        lines += [f"{first_names(sorted(names, key=natural_key))} left out: {where}"] if names else []
    return lines


def unread_folders(folders: Mapping[str, str], listings: Mapping[str, Listing]) -> list[str]:
    """A line for each of the first folders that cannot be read, and how many there are."""
    unread = [f"{folders[part]}/{each}".lstrip("/") for part, listing in listings.items() for each in listing.unread]
    many = [f"{len(unread)} folders cannot be read and are left out"] if len(unread) > FIRST else []
    return [f"cannot read the folder {each}" for each in unread[:FIRST]] + many


def vanished(folder: str, listing: Listing) -> list[str]:
    """A line if a folder that would be a class has no image: what it has, or that it is empty."""
    tops = {path.partition("/")[0] for path in listing.files}
    empty = {
        printable(f"{folder}/{top}/".lstrip("/")): ", ".join(f"{n} {reason}" for reason, n in counts.most_common(3))
        for top, counts in listing.left_out.items()
        if top and top not in tops
    }
    shown = "; ".join(f"{name} has {reasons or 'nothing'}" for name, reasons in list(empty.items())[:FIRST])
    return [f"no image, and so no class, in {plural(len(empty), 'folder')}: {shown}"] if empty else []
