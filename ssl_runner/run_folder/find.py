"""Search for run folders below other folders, and names for them."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, EVALUATION, OVERRIDES, SUMMARY

LARGE = (CHECKPOINTS, EVALUATION)  # folders of a run that hold no other run


def find(places: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Run folders below any of the places by name, in the order of their paths, and a line for each that has none.

    A run reached twice, by a link or by two places, counts once, by the path by which it was reached first. A name is
    the path below the deepest folder that holds all of them.
    """
    runs: dict[Path, Path] = {}
    problems = []
    for place in places:
        here = list(walk(place))
        if not place.is_dir():
            problems.append(f"{place} is no folder; give run folders, or one that holds them, as outputs")
        elif not here:
            problems.append(f"{place} holds no run: there is no summary.json in it or below")
        for folder in here:
            runs.setdefault(folder.resolve(), Path(os.path.abspath(folder)))  # noqa: PTH100  links are kept
    above = os.path.commonpath([path.parent for path in runs.values()]) if runs else ""
    return {str(path.relative_to(above)): path for path in runs.values()}, problems


def walk(place: Path) -> Iterator[Path]:
    """Run folders in and below a place. Links are followed, and each folder is visited once."""
    seen: set[str] = set()
    left = [str(place)]  # os.walk would recurse, which ends in an error in a deep tree
    while left:
        above = left.pop()
        real = os.path.realpath(above)
        if real in seen:
            continue
        seen.add(real)
        with contextlib.suppress(OSError):  # it cannot be read, or its path is too long
            with os.scandir(above) as entries:
                names = {each.name: is_folder(each) for each in entries}
            folders = [name for name, is_folder in names.items() if is_folder and name not in LARGE]
            left += [f"{above}/{name}" for name in sorted(folders, reverse=True) if not name.startswith(".")]
            if SUMMARY in names or {CONFIG, OVERRIDES} <= names.keys():
                yield Path(above)


def is_folder(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False
