"""A config as settings: completed by the defaults of signatures, and held against another one."""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_runner.config.check import Node, check
from ssl_runner.duration import Duration
from ssl_runner.run.job import RUNTIME, Job


class _Absent:
    pass


ABSENT = _Absent()


def complete(content: Mapping[str, Any], node: Node) -> dict[str, Any]:
    """A config with all that it leaves to the defaults of signatures; `node` is what `check` made of it."""
    found = {key: _complete(value, node.arguments.get(key)) for key, value in content.items()}
    for key, parameter in inspect.signature(node.target).parameters.items():
        if key not in found and key not in node.wants and _is_plain(parameter.default):
            found[key] = _plain(parameter.default)
    return found


def _complete(value: Any, checked: Any) -> Any:
    if isinstance(checked, Node) and isinstance(value, Mapping):
        return complete(value, checked)
    if isinstance(checked, Mapping) and isinstance(value, Mapping):
        return {key: _complete(each, checked.get(key)) for key, each in value.items()}
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Duration)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Duration) else value


def completed(content: dict[str, Any]) -> dict[str, Any]:
    return complete(content, check(content, Job, RUNTIME)[0])


def distance(new: Any, old: Any) -> int:
    """How many keys differ; a class in the place of another counts for more than all of its settings."""
    a, b = dict(leaves(new)), dict(leaves(old))
    differing = [key for key in {**a, **b} if key not in a or key not in b or not same(a[key], b[key])]
    return sum(1000 if key.endswith("_target_") else 1 for key in differing)


def at(content: Any, place: str) -> Any:
    for word in place.split("."):
        if not isinstance(content, Mapping) or word not in content:
            return ABSENT
        content = content[word]
    return content


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for word, value in node.items():
            yield from leaves(value, f"{key}.{word}" if key else str(word))
    else:
        yield key, node


def same(a: Any, b: Any) -> bool:
    """1, 1.0 and true are three values here."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def difference(new: Mapping[str, Any], old: Mapping[str, Any], key: str = "") -> tuple[dict[str, Any], list[str]]:
    """What is to be laid over `old` to have `new`, and the keys of `old` that nothing laid over it can take away."""
    over: dict[str, Any] = {}
    extra = [f"{key}{word}" for word in old if word not in new]
    for word, value in new.items():
        before = old.get(word, ABSENT)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            below, more = difference(value, before, f"{key}{word}.")
            extra += more
            if below:
                over[word] = below
        elif before is ABSENT or not same(value, before):
            over[word] = value
    return over, extra


def unequal(new: Any, old: Any) -> list[str]:
    """Keys that differ; an order counts where it is one of evaluators or of terms, which have no class of their own."""
    a, b = dict(leaves(new)), dict(leaves(old))
    found = [key for key in {**a, **b} if key not in a or key not in b or not same(a[key], b[key])]
    return found or [key for key in unclassed(new) if list(at(new, key)) != list(at(old, key))]


def unclassed(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        if key and "_target_" not in node:
            yield key
        for word, value in node.items():
            yield from unclassed(value, f"{key}.{word}" if key else str(word))
