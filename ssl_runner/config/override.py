"""Overrides applied to a plain dictionary, as Hydra would apply them to its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ssl_runner.errors import SYNONYMS, nearest, plain
from ssl_runner.run_folder.layout import GROUPS

if TYPE_CHECKING:
    from ssl_runner.config.grammar import Override
    from ssl_runner.config.hydra import Tree

ABSENT = object()
# What others call our settings.
ALIASES = {"learning_rate": "optimizer.lr", "lr": "optimizer.lr", "wd": "optimizer.weight_decay"}
ALIASES |= {"epochs": "length", "max_epochs": "length", "batch": "batch_size"}


def apply_override(
    content: dict[str, Any],
    override: Override,
    possible: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    content_of: Callable[[str], Mapping[str, Any]],
) -> None:
    """Changes, adds or removes a key. `possible`: keys that may be changed, whether or not they are there;
    `content_of`: what the file of GROUP/CHOICE has, so that choices with the key can be named.

    Raises ValueError in one line.
    """
    before, deletes = get(content, override.key), override.action == "DEL"
    if override.action == "CHANGE" and before is ABSENT and override.key not in possible:
        raise ValueError(unknown_key(override, possible, groups, content_of))
    if deletes and (before is ABSENT or override.value not in (None, before)):
        raise ValueError(f"{override.text}: nothing is there to be left out, or another value")
    if override.action == "ADD" and before not in (ABSENT, None) and not isinstance(override.value, dict | list):
        raise ValueError(f"{override.text}: is there already; type {override.text.removeprefix('+')}")
    put(content, override.key, ABSENT if deletes else merge(before, override.value))


def choice_problems(override: Override, options: Sequence[str]) -> list[str]:
    """A line for each word that is no choice of its group, of which there are `options`."""
    group, value = override.key, override.raw if override.error else override.value
    if override.is_sweep:
        return [f"{override.text}: is a sweep over several values; type -m to run it"]
    if override.mount is None and group in (*GROUPS, "evaluator", "experiment"):
        if override.action == "DEL":
            needed = (
                "null" if group == "experiment" else "none" if "none" in options else f"NAME, of {', '.join(options)}"
            )
            return [f"{override.text}: a job has a choice of it; type {group}={needed}"]
        if override.action == "FORCE_ADD" or (override.action == "ADD" and group != "experiment"):
            return [f"{override.text}: a job has a choice of it; type {override.text.lstrip('+')}"]
    elif override.action == "DEL":
        return []
    words = value if isinstance(value, list) and group == "evaluator" else [value]
    unknown = ["null" if word is None else str(word) for word in words if str(word) not in options]
    return [f"{group}: given {each}; possible are {', '.join(options)}{nearest(each, options)}" for each in unknown]


def get(content: Any, key: str) -> Any:
    """The value at a dotted key, or ABSENT."""
    for word in key.split("."):
        if not isinstance(content, Mapping) or word not in content:
            return ABSENT
        content = content[word]
    return content


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key, or removes it if the value is ABSENT. Mappings below `content` are replaced, not changed."""
    *above, last = key.split(".")
    for word in above:
        below = content.get(word)
        content[word] = content = dict(below) if isinstance(below, dict) else {}
    if value is ABSENT:
        content.pop(last, None)
    else:
        content[last] = value


def merge(before: Any, now: Any) -> Any:
    """A value laid over another: mappings key by key."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return now
    return before | {key: merge(before.get(key), value) for key, value in now.items()}


def paths(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key as a path, those of mappings included, and its value."""
    for key, value in content.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}.")


def leaves(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by their path; an empty mapping is one."""
    return {key: value for key, value in paths(content) if not (isinstance(value, Mapping) and value)}


def without_unchosen(tree: Tree, names: Iterable[str]) -> tuple[Tree, list[str]]:
    """The tree without settings of evaluators that were not chosen, as a recipe sets them and others were typed; and a
    line for each. `names`: of all that can be chosen.
    """
    chosen = tree.content.get("evaluator")
    if not isinstance(chosen, dict):
        return tree, []
    left = [name for name in names if isinstance(own := chosen.get(name), dict) and "_target_" not in own]
    kept = {name: each for name, each in chosen.items() if name not in left}
    lines = [f"evaluator.{name} of the recipe is left out: {name} is not chosen" for name in left]
    return replace(tree, content={**tree.content, "evaluator": kept}), lines


def unknown_key(
    override: Override,
    possible: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    content_of: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> str:
    key, value = override.key, SYNONYMS.get(plain(str(override.value)))
    group, *below = key.split(".")
    chosen = sorted({each.split(".")[1] for each in possible if each.startswith("evaluator.")})
    if group == "evaluator" and below and below[0] in groups[group] and below[0] not in chosen:
        return f"{key}: {below[0]} is not chosen; type evaluator=[{','.join([*chosen, below[0]])}]"
    parent, _, last = key.rpartition(".")
    known = [each for each in possible if not each.endswith("_target_")]
    siblings = [each for each in known if each.rpartition(".")[0] == parent] or [k for k in known if "." not in k]
    contents = {each: content_of(f"{group}/{each}") for each in groups.get(group, ()) if below}
    others = [each for each, content in contents.items() if get(content, ".".join(below)) is not ABSENT]
    same_end = [each for each in known if each.rpartition(".")[2] == last]
    alike = [ALIASES[key]] if ALIASES.get(key) in known else same_end[:3]
    alike = [f"{each}={value}" if value else each for each in alike]
    guess = f"; did you mean {' or '.join(alike)}?" if alike else nearest(key, [*known, *groups])
    guess = f"; it belongs to {group}={', '.join(others[:6])}{', ...' if others[6:] else ''}" if others else guess
    return f"{key}: is no setting; possible here: {', '.join(siblings)}{guess}"
