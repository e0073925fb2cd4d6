"""Origin of a run: where relative paths of its config start, and the fingerprint of its data. No torch."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT, SWEEP

PLACE = re.compile(r"(.*_)?(root|cache|folder|path|dir|file)")  # keys of a dataset whose text is a path
INIT = ("init", "init.path")
MADE = "cache"  # ends the key of a folder that is made if it is absent


def names_path(key: str) -> bool:
    """Whether the text at a dotted key is a path."""
    return PLACE.fullmatch(key.rpartition(".")[2]) is not None


def begun_in(run: Path) -> Path | None:
    """The folder in which a run, or the sweep whose job it is, was begun; None if that is not known."""
    recorded = read_json(run / ENVIRONMENT).get("begun_in") or read_json(run.parent / SWEEP).get("cwd")
    return Path(recorded) if isinstance(recorded, str) else None


def is_elsewhere(origin: Path | None) -> bool:
    """Whether a folder is known and is not the current one."""
    return origin is not None and not (origin.is_dir() and origin.samefile(Path.cwd()))


def recorded_fingerprint(summary: Mapping[str, Any], environment: Mapping[str, Any]) -> str | None:
    """The fingerprint of the data that a run had last; None if it is not known."""
    others = entries(summary.get("other_data"))
    known = others[-1].get("fingerprint") if others else environment.get("dataset")
    return known if isinstance(known, str) else None


def entries(content: Any) -> tuple[Mapping[str, Any], ...]:
    """Those that name a step, of what should be a list of mappings."""
    listed = content if isinstance(content, list) else []
    return tuple(each for each in listed if isinstance(each, dict) and isinstance(each.get("step"), int))


def relative_places(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and text of each relative path of a config's dataset and of its initial weights."""
    for key, text in texts({name: content.get(name) for name in ("dataset", "init")}):
        named = key in INIT or (key.startswith("dataset.") and names_path(key))
        if named and "://" not in text and not text.startswith("~") and not os.path.isabs(text):  # noqa: PTH117
            yield key, text


def texts(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from texts(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value


def with_places(content: Mapping[str, Any], start: Path | None, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """The config with relative paths, or those of `keys` alone, made absolute from a folder; None: as they are."""
    whole = dict(content)
    for key, text in list(relative_places(content)):
        if start is not None and (keys is None or key in keys):
            *above, last = key.split(".")
            node = whole
            for word in above:
                node[word] = node = dict(node[word])
            node[last] = str(start / text)
    return whole


def start_of_paths(content: Mapping[str, Any], origin: Path | None) -> Path | None:
    """The folder from which relative paths start: where the run was begun, or the current one, which is None.

    The current one if what is named is there alone, or if nobody has the other any more.
    """
    if origin is None or not origin.is_dir() or not is_elsewhere(origin):
        return None
    paths = [text for key, text in relative_places(content) if not key.endswith(MADE)]
    lies_here = all(Path(text).exists() for text in paths) and bool(paths)
    return None if lies_here and not all((origin / text).exists() for text in paths) else origin


def absent_places(content: Mapping[str, Any], origin: Path | None) -> str:
    """What to add to a refusal if relative paths lie neither where the run was begun nor in the current folder."""
    absent = []
    for key, text in relative_places(content):
        both = [origin / text, Path.cwd() / text] if origin and is_elsewhere(origin) else []
        if both and not key.endswith(MADE) and not any(path.exists() for path in both):
            absent.append(f"neither {both[0]}, the run being begun there, nor {both[1]} exists: type {key}=PATH")
    return "".join(f"; {each}" for each in absent)
