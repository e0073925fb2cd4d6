"""Search for run folders below other folders, and names for them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, EVALUATION, OVERRIDES, SUMMARY

LARGE = (CHECKPOINTS, EVALUATION)  # folders of a run that hold no other run


def find(places: Iterable[Path]) -> tuple[dict[Path, Path], list[str]]:
    """Run folders below any of the places, in the order of their paths, and a line for each place that has none.

    Keys are real paths, so that a run reached twice, by a link or by two places, counts once; the values are the paths
    by which they were reached.
    """
    runs: dict[Path, Path] = {}
    problems = []
    for place in places:
        if not place.is_dir():
            problems.append(f"{place} is no folder; give run folders, or one that holds them, as outputs")
            continue
        here = list(walk(place))
        if not here:
            problems.append(f"{place} holds no run: there is no summary.json in it or below")
        for folder in here:
            runs.setdefault(folder.resolve(), Path(os.path.abspath(folder)))  # noqa: PTH100  links are kept
    return runs, problems


def walk(place: Path) -> Iterator[Path]:
    """Run folders in and below a place. Links are followed, and each folder is visited once."""
    seen: set[str] = set()
    for above, folders, files in os.walk(place, followlinks=True):
        real = os.path.realpath(above)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in LARGE)
        if SUMMARY in files or (CONFIG in files and OVERRIDES in files):
            yield Path(above)


def names(paths: Mapping[Path, Path]) -> dict[Path, str]:
    """Name of each run: its path below the deepest folder that holds all of them."""
    if not paths:
        return {}
    above = os.path.commonpath([path.parent for path in paths.values()])
    return {real: str(path.relative_to(above)) for real, path in paths.items()}
