"""Choices that a dataset recommends: a model and augmentation that suit its samples, in the place of others.

Its YAML names them, `recommends: {model: {convnet_small: ast_tiny}, augment: {simclr: audio}}`: by group, what stands
in the place of what. Besides, conf/augment/NAME.yaml by the name of the dataset stands in the place of `simclr`. That
is so where a pretext task's YAML mounts it, unless the user, a recipe or a config to start from says something of that
mount: another choice, or a value below it. A model is left alone if one was typed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from ssl_runner.config.override import ABSENT, get

if TYPE_CHECKING:
    from ssl_runner.config.grammar import Override
    from ssl_runner.config.hydra import Tree

USUAL = "simclr"  # what a task mounts if it has no wish but two views
BELOW = "augment@pretext."
IMAGES = "Views"  # how a task annotates what makes views of images alone; of several kinds: Recipe
KEY, GROUPS = "recommends", ("model", "augment")


def take_recommended(tree: "Tree") -> "Tree":
    """What its dataset's file recommends, taken out of the content. Raises ValueError if it is malformed."""
    dataset = tree.content.get("dataset")
    if not isinstance(dataset, Mapping) or KEY not in dataset:
        return tree
    table = dataset[KEY]
    groups = list(table.values()) if isinstance(table, Mapping) and not table.keys() - {*GROUPS} else [None]
    if not all(isinstance(each, Mapping) and all(isinstance(w, str) for w in each.values()) for each in groups):
        wanted = f"choices in the place of others for {' and '.join(GROUPS)}, as in model: {{convnet_small: ast_tiny}}"
        raise ValueError(f"dataset.{KEY}: given {table!r:.60}, and {wanted} are wanted")
    content = {**tree.content, "dataset": {key: each for key, each in dataset.items() if key != KEY}}
    return replace(tree, content=content, recommends=table)


def recommended_choices(
    tree: "Tree",
    names: Iterable[str],
    typed: "Sequence[Override]",
    folders: Sequence[Path],
    name: str,
    annotation: Callable[[str], Any],
) -> list[str]:
    """A word of the command line for each mount, or group, that gets what the dataset recommends.

    `names`: of the recipes of views that there are; `typed`: all of the user's words; `name`: of the config to start
    from; `annotation`: of what a key sets. A task that takes views of images alone gets no others: then its kind, and
    not the class of a recipe, is what is refused.
    """
    choices, table = tree.choices, tree.recommends
    dataset, recipe = choices.get("dataset"), choices.get("experiment")
    if dataset is None:
        return []
    views = {USUAL: dataset} if dataset != USUAL and dataset in names else {}
    views |= table.get("augment", {})
    files = [f"{name}.yaml", *([f"experiment/{recipe}.yaml"] if recipe else [])]
    mounts = {key.partition("@")[2]: str(each) for key, each in choices.items() if key.startswith(BELOW)}
    said = {(each.mount or each.key).removeprefix("_global_.") for each in typed}
    free = [
        place
        for place, choice in sorted(mounts.items())
        if choice in views and not any(f"{each}.".startswith(f"{place}.") for each in said)
        if getattr(annotation(place), "__name__", "") != IMAGES or class_of_recipe(folders, views[choice]) == IMAGES
    ]
    model = table.get("model", {}).get(str(choices.get("model")))
    words = [f"model={model}"] if model and "model" not in said else []
    return words + [
        f"augment@{each}={views[mounts[each]]}" for each in free if not any(says(folders, file, each) for file in files)
    ]


def class_of_recipe(folders: Sequence[Path], name: str) -> str:
    """The name of the class that makes the views; nothing if there is no such recipe."""
    return str(read_first(folders, f"augment/{name}.yaml").get("_target_", "")).rpartition(".")[2]


def read_first(folders: Sequence[Path], file: str) -> dict[str, Any]:
    """What the first of these files says by itself; nothing if there is none, or it is broken."""
    path = next((folder / file for folder in folders if (folder / file).is_file()), None)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    return content if isinstance(content, dict) else {}


def says(folders: Sequence[Path], file: str, place: str) -> bool:
    """Whether a file, or one that it builds on, chooses what is mounted at a place or sets a value there."""
    content = read_first(folders, file)
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


def note(words: Sequence[str], choices: Mapping[str, str | None]) -> str:
    """What the first lines of a run say of it. `choices`: those in whose place the words stand."""
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(word.partition("=")[0].partition("@")[0], []).append(word.partition("=")[2])
    chosen = ", ".join(f"{group}: {' and '.join(dict.fromkeys(each))}" for group, each in groups.items())
    own = " ".join(f"{key}={choices[key]}" for key in (word.partition("=")[0] for word in words))
    return f"{chosen}, which the dataset recommends; {own} for the pretext's own"
