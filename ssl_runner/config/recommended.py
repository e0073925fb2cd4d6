"""Augmentation that a dataset recommends: conf/augment/NAME.yaml, by the name of the dataset.

It is mounted where a pretext task's YAML mounts `simclr`, unless the user, a recipe or a config to start from says
something of that mount: another choice, or a value below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import yaml

from ssl_runner.config.override import ABSENT, get

if TYPE_CHECKING:
    from ssl_runner.config.grammar import Override

USUAL = "simclr"  # what a task mounts if it has no wish but two views
BELOW = "augment@pretext."


def recommended_choices(
    choices: Mapping[str, str | None],
    names: Iterable[str],
    typed: "Sequence[Override]",
    folders: Sequence[Path],
    name: str,
) -> list[str]:
    """A word of the command line for each mount that gets the dataset's recipe.

    `choices`: those of each group and mount; `names`: of the recipes that there are; `typed`: all of the user's words;
    `name`: of the config to start from.
    """
    dataset, recipe = choices.get("dataset"), choices.get("experiment")
    if dataset is None or dataset == USUAL or dataset not in names:
        return []
    files = [f"{name}.yaml", *([f"experiment/{recipe}.yaml"] if recipe else [])]
    mounts = sorted(key for key, choice in choices.items() if key.startswith(BELOW) and choice == USUAL)
    places = [key.partition("@")[2] for key in mounts]
    said = {(each.mount or each.key).removeprefix("_global_.") for each in typed}
    free = [place for place in places if not any(f"{each}.".startswith(f"{place}.") for each in said)]
    return [f"augment@{place}={dataset}" for place in free if not any(says(folders, each, place) for each in files)]


def says(folders: Sequence[Path], file: str, place: str) -> bool:
    """Whether a file, or one that it builds on, chooses what is mounted at a place or sets a value there."""
    path = next((folder / file for folder in folders if (folder / file).is_file()), None)
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    if not isinstance(content, dict):
        return False
    if get(content, place) is not ABSENT:
        return True
    for each in content.get("defaults") or ():
        if isinstance(each, str) and each != "_self_":
            other = PurePosixPath(file).parent / each.partition("@")[0]
            if says(folders, f"{str(other).lstrip('/')}.yaml", place):
                return True
        elif isinstance(each, dict) and any(str(key).split("@")[-1] in (place, f"_global_.{place}") for key in each):
            return True
    return False


def note(words: Sequence[str]) -> str:
    """What the first lines of a run say of it."""
    own = " ".join(f"{word.partition('=')[0]}={USUAL}" for word in words)
    return f"augment: {words[0].partition('=')[2]}, which the dataset recommends; {own} for the pretext's own"
