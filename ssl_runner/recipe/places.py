"""Places on a machine, which a recipe for others does not hold."""

import re
from collections.abc import Mapping
from typing import Any

from ssl_runner.recipe.settings import ABSENT, at, leaves

KEYS = ("root", "cache", "folder")  # whose text is a place
PLACE = re.compile(r"~|[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|file://")


def leave_out(overrides: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[dict, dict[str, Any], list[str]]:
    """Overrides without places, `???` for one that has no default; the places; and which of them must be typed."""
    left_out = {key: value for key, value in leaves(overrides) if is_place(key, value)}
    missing = [key for key in left_out if at(base, key) in (ABSENT, "???")]
    return without(overrides, left_out, base), left_out, missing


def without(node: Mapping[str, Any], left_out: Mapping[str, Any], base: Mapping[str, Any], above: str = "") -> dict:
    kept: dict[str, Any] = {}
    for word, value in node.items():
        key = f"{above}{word}"
        if key in left_out:
            if at(base, key) is ABSENT:
                kept[word] = "???"
        elif not isinstance(value, Mapping) or not value:
            kept[word] = value
        elif below := without(value, left_out, base, f"{key}."):
            kept[word] = below
    return kept


def is_place(key: str, value: Any) -> bool:
    if isinstance(value, list):
        return any(is_place(key, each) for each in value)
    return isinstance(value, str) and (key.rpartition(".")[2] in KEYS or PLACE.match(value) is not None)
