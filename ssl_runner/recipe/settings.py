"""A config as the choices that it is nearest to, and the settings that differ from what they give."""

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from ssl_runner.config.check import check
from ssl_runner.config.compose import Composer
from ssl_runner.config.file_paths import names_path
from ssl_runner.config.node import Node, parameters
from ssl_runner.config.override import ABSENT, get, leaves, paths
from ssl_runner.config.recommended import BELOW, USUAL, read_first
from ssl_runner.duration import Duration
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run_folder.layout import GROUPS

# By group or mount: {"pretext": "byol", "augment@pretext.augment": "none"}; None if a mount is left out.
Choices = dict[str, str | list[str] | None]
COMPOSED = 3  # of the choices of a mount or group, those whose files are nearest to the run
PLACE = re.compile(r"~|[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|file://")


def complete(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config with all that it leaves to the defaults of signatures."""
    return with_defaults(content, check(content, Job, RUNTIME)[0])


def with_defaults(value: Any, checked: Any) -> Any:
    """`checked` is what the check made of a value."""
    arguments = checked.arguments if isinstance(checked, Node) else checked
    if not (isinstance(value, Mapping) and isinstance(arguments, Mapping)):
        return value
    whole = {key: with_defaults(each, arguments.get(key)) for key, each in value.items()}
    for key, (_, default) in parameters(checked.target).items() if isinstance(checked, Node) else ():
        if key not in whole and key not in checked.wants and (setting := plain(default)) is not ABSENT:
            whole[key] = setting
    return whole


def plain(default: Any) -> Any:
    """A default as a config has it; ABSENT if it has no such thing."""
    if isinstance(default, list | tuple):
        items = list(map(plain, default))
        return ABSENT if ABSENT in items else items
    if isinstance(default, Duration):
        return str(default)
    return default if default is None or isinstance(default, bool | int | float | str) else ABSENT


def diff(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """The paths at which values differ."""
    # as JSON, in which 1, 1.0 and true are three values
    a, b = ({key: json.dumps(value, default=str) for key, value in leaves(each).items()} for each in (new, old))
    return [key for key in a | b if a.get(key) != b.get(key)]


def distance(new: Any, old: Any) -> int:
    """How many keys differ; a class in place of another counts for more than all of its settings."""
    keys = diff({"node": new}, {"node": old})
    return sum(1000 if key.endswith("_target_") else 1 for key in keys)


def unequal(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Keys that differ; an order counts among evaluators or terms, which have no class of their own."""
    unclassed = {key: value for key, value in paths(new) if isinstance(value, Mapping) and "_target_" not in value}
    return diff(new, old) or [key for key, value in unclassed.items() if list(value) != list(get(old, key))]


def is_place(key: str, value: Any) -> bool:
    """Whether a setting is a place on a machine, which a recipe for others does not hold."""
    if isinstance(value, list):
        return any(is_place(key, each) for each in value)
    return isinstance(value, str) and (names_path(key) or PLACE.match(value) is not None)


def choose(composer: Composer, content: Mapping[str, Any], recorded: Mapping[str, Any]) -> Choices:
    """The choices from which the least must be changed: those `recorded` if the tree has them."""
    options = composer.groups
    choices: Choices = {group: str(recorded[group]) for group in GROUPS if recorded.get(group) in options[group]}
    choices["evaluator"] = [name for name in content.get("evaluator", {}) if name in options["evaluator"]] or "none"

    def nearest(key: str, place: str, names: list[str]) -> str:
        """The name of a choice from which the fewest settings differ; the first of those alike.

        Of the files that say all by themselves the nearest few are composed, under what the task's own says of them.
        """
        wanted, distances = get(content, place), dict[str, int]()
        group = key.partition("@")[0]
        files = {name: read_first(composer.folders, f"{group}/{name}.yaml") for name in names}
        whole = [name for name in names if "defaults" not in files[name]]
        far = sorted(whole, key=lambda name: distance(wanted, files[name]))[COMPOSED:]
        for name in (each for each in names if each not in far):
            with contextlib.suppress(ValueError):  # a broken file, or one that does not go with the others
                tree, _ = composer.tree(typed_choices({**choices, key: name}))
                distances[name] = distance(wanted, get(tree, place))
        return min(distances, key=lambda name: distances[name], default=names[0])

    base, _ = composer.tree(typed_choices(choices))
    for group in GROUPS:
        if group not in choices or get(base, f"{group}._target_") != content[group]["_target_"]:
            choices[group] = nearest(group, group, options[group])
    base, mounts = composer.tree(typed_choices(choices))
    for mount, current in mounts.items():
        group, _, place = mount.partition("@")
        if not place or place in GROUPS or current is None:
            continue
        node = get(content, place)
        if node is ABSENT:
            choices[mount] = None
        elif isinstance(node, Mapping):
            best = nearest(mount, place, [current, *options[group]]) if distance(node, get(base, place)) else current
            # If the recipe does not name it, what the dataset recommends stands there.
            replaced = current == USUAL and mount.startswith(BELOW) and choices["dataset"] in options[group]
            choices |= {mount: best} if replaced or best != current else {}
    return choices


def typed_choices(choices: Choices) -> list[str]:
    """The words of the command line that make choices."""
    return [f"~{key}" if value is None else f"{key}={typed_choice(value)}" for key, value in choices.items()]


def typed_choice(value: str | list[str] | None) -> str:
    return "null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]"
