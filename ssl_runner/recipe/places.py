"""Places on a machine, which a recipe for others does not hold."""

import re
from collections.abc import Mapping
from typing import Any

from ssl_runner.recipe.settings import ABSENT, at, leaves

KEYS = ("root", "cache", "folder")  # whose text is a place
PLACE = re.compile(r"~|[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|file://")


def leave_out(overrides: dict[str, Any], base: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Takes places out of the overrides. Returns them, and which of them whoever runs it has to type."""
    left_out = {key: value for key, value in leaves(overrides) if is_place(key, value)}
    missing = []
    for key in left_out:
        *above, last = key.split(".")
        nodes = [overrides]
        for word in above:
            nodes.append(nodes[-1][word])
        default = at(base, key)
        if default is ABSENT:
            nodes[-1][last] = "???"
        else:
            del nodes[-1][last]
        if default is ABSENT or default == "???":
            missing.append(key)
        for node, word in zip(reversed(nodes[:-1]), reversed(above), strict=True):
            if not node[word]:
                del node[word]
    return left_out, missing


def is_place(key: str, value: Any) -> bool:
    if isinstance(value, list):
        return any(is_place(key, each) for each in value)
    return isinstance(value, str) and (key.rpartition(".")[2] in KEYS or PLACE.match(value) is not None)
