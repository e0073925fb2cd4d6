"""The format of a written config: its number, and how one that an older version wrote is read.

A file says `format: 2` at its top; without it, it is of format 1. In memory a config has no such key: it is always of
the newest format.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from ssl_runner import __version__

KEY = "format"
# MIGRATIONS[0] turns a config of format 1 into one of format 2, in place, and so on. It also meets parts of configs,
# such as a recipe of overrides or a model alone, so any key may be absent. A key that cannot be carried over is refused
# by a ValueError that names it and says what to type. A renamed choice needs no migration: a YAML of the old name whose
# defaults list holds the new one keeps it alive.
MIGRATIONS: list[Callable[[dict[str, Any]], None]] = []


def newest() -> int:
    """The format that this version writes."""
    return 1 + len(MIGRATIONS)


def stamped(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as it is to be written."""
    return {KEY: newest(), **content}


def migrated(content: Mapping[str, Any], where: str, writer: str | None = None) -> dict[str, Any]:
    """What was read, in the newest format and without its number; `content` is left as it is.

    An encoder's recipe, which has a `_target_` at its top, is a config's `model`. `where` names the file and `writer`
    the version of ssl-runner that wrote it, where that is known. Raises ValueError with what is wrong.
    """
    number = content.get(KEY, 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{where}: {KEY}: given {number!r}, and a number from 1 to {newest()} is wanted")
    if number > newest():
        able = f"ssl-runner {writer}, which wrote it, reads it" if writer else "a later version of ssl-runner reads it"
        raise ValueError(f"{where}: {KEY}: given {number}, and ssl-runner {__version__} reads up to {newest()}; {able}")
    plain = {key: value for key, value in content.items() if key != KEY}
    if number == newest():
        return plain
    whole = copy.deepcopy({"model": plain} if "_target_" in plain else plain)
    for step, migrate in enumerate(MIGRATIONS[number - 1 :], start=number):
        try:
            migrate(whole)
        except ValueError as error:
            raise ValueError(f"{where} (format {step}): {error}") from None
    return whole["model"] if "_target_" in plain else whole
