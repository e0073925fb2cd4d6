"""Overrides applied to a plain dictionary, as Hydra would apply them to its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ssl_runner.config.hydra import Override
from ssl_runner.errors import nearest

# What others call our settings.
ALIASES = {
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "epochs": "length",
    "max_epochs": "length",
    "batch": "batch_size",
    "wd": "optimizer.weight_decay",
}


def apply_override(content: dict[str, Any], override: Override, possible: Iterable[str], groups: Iterable[str]) -> None:
    """Changes, adds or removes a key. `possible`: keys that may be changed, whether or not they are there.

    Raises ValueError in one line.
    """
    *above, last = override.key.split(".")
    node: Any = content
    for word in above:
        node = node.get(word) if isinstance(node, dict) else None
    there = isinstance(node, dict) and last in node
    if override.action == "CHANGE" and not there and override.key not in possible:
        raise ValueError(unknown_key(override.key, possible, groups))
    if override.action == "DEL":
        if not there or override.value not in (None, node[last]):
            raise ValueError(f"{override.text}: nothing is there to be left out, or another value")
        del node[last]
        return
    if override.action == "ADD" and there and node[last] is not None and not isinstance(override.value, dict | list):
        raise ValueError(f"{override.text}: is there already; type {override.text.removeprefix('+')}")
    node = content
    for word in above:
        below = node.get(word)
        node[word] = node = below if isinstance(below, dict) else {}
    node[last] = merged(node.get(last), override.value)


def merged(before: Any, now: Any) -> Any:
    """A value laid over another: mappings key by key."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return now
    return {key: merged(before.get(key), now[key]) if key in now else before[key] for key in {**before, **now}}


def replace(content: dict[str, Any], source: Mapping[str, Any], place: str) -> None:
    """Puts the node that another config has in a place into this one; nothing if it has none."""
    *above, last = place.split(".")
    node: Any = content
    for word in above:
        below = node.get(word)
        node[word] = node = dict(below) if isinstance(below, dict) else {}
        source = source.get(word) or {}
    if last in source:
        node[last] = source[last]
    else:
        node.pop(last, None)


def paths(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key as a path, those of mappings included, and its value."""
    for key, value in content.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}.")


def unknown_key(key: str, possible: Iterable[str], groups: Iterable[str]) -> str:
    parent, _, last = key.rpartition(".")
    known = [each for each in possible if not each.endswith("_target_")]
    same_end = [each for each in known if each.rpartition(".")[2] == last]
    if ALIASES.get(key) in known:
        guess = f"; did you mean {ALIASES[key]}?"
    elif same_end:
        guess = f"; did you mean {' or '.join(same_end[:3])}?"
    else:
        guess = nearest(key, [*known, *groups])
    siblings = [each for each in known if each.rpartition(".")[0] == parent] or [k for k in known if "." not in k]
    return f"{key}: is no setting; possible here: {', '.join(siblings)}{guess}"
