"""The choices that a config is nearest to."""

import contextlib
from collections.abc import Mapping
from typing import Any

from ssl_runner.config.compose import Composer
from ssl_runner.recipe.settings import ABSENT, at, distance
from ssl_runner.run_folder.layout import GROUPS

# By group or mount: {"pretext": "byol", "augment@pretext.augment": "none"}; None if a mount is left out.
Choices = dict[str, str | list[str] | None]


def choose(
    composer: Composer, content: Mapping[str, Any], recorded: Mapping[str, Any]
) -> tuple[Choices, dict[str, Any]]:
    """The choices from which the least must be changed, and what they give: the run's own if the tree has them."""
    options = composer.groups
    picked: Choices = {group: str(recorded[group]) for group in GROUPS if recorded.get(group) in options[group]}
    picked["evaluator"] = [name for name in content.get("evaluator", {}) if name in options["evaluator"]] or "none"
    base, mounts = composer.tree(lines(picked))
    for group in GROUPS:
        if group not in picked or at(base, f"{group}._target_") != content[group]["_target_"]:
            picked[group] = nearest(composer, content, picked, group, group, options[group])
    base, mounts = composer.tree(lines(picked))
    for mount, current in mounts.items():
        group, _, place = mount.partition("@")
        if not place or place in GROUPS or current is None:
            continue
        node = at(content, place)
        if node is ABSENT:
            picked[mount] = None
        elif isinstance(node, Mapping) and distance(node, at(base, place)):
            best = nearest(composer, content, picked, mount, place, [current, *options[group]])
            picked |= {mount: best} if best != current else {}
    return picked, composer.tree(lines(picked))[0]


def nearest(
    composer: Composer, content: Mapping[str, Any], picked: Choices, key: str, place: str, options: list[str]
) -> str:
    """The option from which the fewest settings differ; the first of those alike."""
    away: dict[str, int] = {}
    for option in options:
        with contextlib.suppress(ValueError):  # a broken file, or one that does not go with the others
            away[option] = distance(at(content, place), at(composer.tree(lines({**picked, key: option}))[0], place))
    return min(away, key=lambda option: away[option], default=options[0])


def lines(choices: Choices) -> list[str]:
    """As they are typed."""
    return [f"~{key}" if value is None else f"{key}={shown(value)}" for key, value in choices.items()]


def shown(value: str | list[str] | None) -> str:
    return "null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]"
