"""The format of a written config: its number, and how one that an older version wrote is read.

A file says `format: 2` at its top; without it, it is of format 1. In memory a config has no such key: it is always of
the newest format.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_runner import __version__
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT

KEY = "format"


def move_views(content: Any) -> None:
    """Format 2: augmentation of images has a room of its own."""
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        move_views(value)
    if isinstance(content, dict) and content.get("_target_") == "ssl_runner.augment.views.Views":
        content["_target_"] = "ssl_runner.augment.image.views.Views"


# MIGRATIONS[0] turns a config of format 1 into one of format 2, in place, and so on. It also meets parts of configs,
# such as a model alone, and a recipe laid over current choices: any key may be absent, and what is current must stay as
# it is. A key that cannot be carried over is refused by a ValueError that names it and says what to type. A renamed
# choice needs no migration: a YAML of the old name whose defaults list holds the new one keeps it alive.
MIGRATIONS: list[Callable[[dict[str, Any]], None]] = [move_views]


def newest() -> int:
    """The format that this version writes."""
    return 1 + len(MIGRATIONS)


def stamped(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as it is to be written."""
    return {KEY: newest(), **content}


def migrated(content: Mapping[str, Any], where: str, writer: str | None = None) -> dict[str, Any]:
    """What was read, in the newest format and without its number; `content` is left as it is.

    An encoder's recipe, which has a `_target_` at its top, is a config's `model`. `where` names the file and `writer`
    the version of ssl-runner that wrote it, if that is known. Raises ValueError with what is wrong.
    """
    number = content.get(KEY, 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{where}: {KEY}: given {number!r}, and a number from 1 to {newest()} is wanted")
    if number > newest():
        able = f"ssl-runner {writer}, which wrote it, reads it" if writer else "a later version of ssl-runner reads it"
        raise ValueError(f"{where}: {KEY}: given {number}, and ssl-runner {__version__} reads up to {newest()}; {able}")
    plain = copy.deepcopy({key: value for key, value in content.items() if key != KEY})
    whole = {"model": plain} if "_target_" in plain else plain
    for step, migrate in enumerate(MIGRATIONS[number - 1 :], start=number):
        try:
            migrate(whole)
        except ValueError as error:
            raise ValueError(f"{where} (format {step}): {error}") from None
    return whole["model"] if "_target_" in plain else whole


def writer_of(folder: Path) -> str | None:
    """The version of ssl-runner that made a run folder."""
    versions = read_json(folder / ENVIRONMENT).get("versions")
    return str(versions["ssl-runner"]) if isinstance(versions, dict) and "ssl-runner" in versions else None
