"""The choices that a config is nearest to."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.config.compose import GROUPS, Composer
from ssl_runner.recipe.settings import ABSENT, at, distance

# By group or mount: {"pretext": "byol", "augment@pretext.augment": "none"}; None where a mount is left out.
Choices = dict[str, str | list[str] | None]


def choose(
    composer: Composer, content: Mapping[str, Any], recorded: Mapping[str, Any]
) -> tuple[Choices, dict[str, Any]]:
    """The choices from which the least is to be changed, and what they give: the run's own where the tree has them."""
    options = composer.groups
    picked: Choices = {group: str(recorded[group]) for group in GROUPS if recorded.get(group) in options[group]}
    picked["evaluator"] = [name for name in content.get("evaluator", {}) if name in options["evaluator"]] or "none"
    base, mounts = composer.tree(lines(picked))
    gone = [each for each in GROUPS if each not in picked or at(base, f"{each}._target_") != content[each]["_target_"]]
    for group in gone:
        picked[group] = nearest(composer, content, picked, group, group, options[group])
    if gone:
        base, mounts = composer.tree(lines(picked))
    before = dict(picked)
    for mount, current in mounts.items():
        group, _, place = mount.partition("@")
        if not place or place in GROUPS or current is None:
            continue
        node = at(content, place)
        if node is ABSENT:
            picked[mount] = None
        elif isinstance(node, Mapping) and distance(node, at(base, place)):
            best = nearest(composer, content, picked, mount, place, [current, *options[group]])
            if best != current:
                picked[mount] = best
    return picked, base if picked == before else composer.tree(lines(picked))[0]


def nearest(
    composer: Composer, content: Mapping[str, Any], picked: Choices, key: str, place: str, options: Sequence[str]
) -> str:
    """The option from which the fewest settings differ; the first of those alike."""
    best, least = options[0], math.inf
    for option in options:
        with contextlib.suppress(ValueError):  # an option that is a broken file, or does not go with the others
            away = distance(at(content, place), at(composer.tree(lines({**picked, key: option}))[0], place))
            if away < least:
                best, least = option, away
        if not least:
            break
    return best


def lines(choices: Choices) -> list[str]:
    """As they are typed."""
    return [f"~{key}" if value is None else f"{key}={shown(value)}" for key, value in choices.items()]


def shown(value: str | list[str] | None) -> str:
    return "null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]"
