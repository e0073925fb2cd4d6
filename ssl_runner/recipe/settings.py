"""A config as settings: completed by the defaults of signatures, and compared with another one."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_runner.config.annotation import parameters
from ssl_runner.config.check import check
from ssl_runner.config.node import Node
from ssl_runner.duration import Duration
from ssl_runner.run.job import RUNTIME, Job

ABSENT = object()


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config with all that it leaves to the defaults of signatures."""
    return with_defaults(content, check(content, Job, RUNTIME)[0])


def with_defaults(value: Any, checked: Any) -> Any:
    """`checked` is what the check made of a value."""
    arguments = checked.arguments if isinstance(checked, Node) else checked
    if not (isinstance(value, Mapping) and isinstance(arguments, Mapping)):
        return value
    whole = {key: with_defaults(each, arguments.get(key)) for key, each in value.items()}
    for key, (_, default) in parameters(checked.target).items() if isinstance(checked, Node) else ():
        if key not in whole and key not in checked.wants and (said := plain(default)) is not ABSENT:
            whole[key] = said
    return whole


def plain(default: Any) -> Any:
    """A default as a config has it; ABSENT if it has no such thing."""
    if isinstance(default, list | tuple):
        items = [plain(each) for each in default]
        return ABSENT if ABSENT in items else items
    if isinstance(default, Duration):
        return str(default)
    return default if default is None or isinstance(default, bool | int | float | str) else ABSENT


def at(content: Any, place: str) -> Any:
    for word in place.split("."):
        if not isinstance(content, Mapping) or word not in content:
            return ABSENT
        content = content[word]
    return content


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values by the path of their key; an empty mapping is one."""
    if isinstance(node, Mapping) and node:
        for word, value in node.items():
            yield from leaves(value, f"{key}.{word}".lstrip("."))
    else:
        yield key, node


def same(a: Any, b: Any) -> bool:
    """1, 1.0 and true are three values here."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def differing(new: Any, old: Any) -> list[str]:
    a, b = dict(leaves(new)), dict(leaves(old))
    return [key for key in {**a, **b} if key not in a or key not in b or not same(a[key], b[key])]


def distance(new: Any, old: Any) -> int:
    """How many keys differ; a class in place of another counts for more than all of its settings."""
    return sum(1000 if key.endswith("_target_") else 1 for key in differing(new, old))


def difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What must be laid over `old` to have `new`, but for keys that only `old` has."""
    over: dict[str, Any] = {}
    for word, value in new.items():
        before = old.get(word, ABSENT)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if below := difference(value, before):
                over[word] = below
        elif before is ABSENT or not same(value, before):
            over[word] = value
    return over


def unequal(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Keys that differ; an order counts among evaluators or terms, which have no class of their own."""
    return differing(new, old) or [key for key in unclassed(new) if list(at(new, key)) != list(at(old, key))]


def unclassed(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        if key and "_target_" not in node:
            yield key
        for word, value in node.items():
            yield from unclassed(value, f"{key}.{word}".lstrip("."))
