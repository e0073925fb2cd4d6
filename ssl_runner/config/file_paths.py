"""Relative paths of files in a config: which settings are paths, and the folder that they start from. No torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.config.override import leaves, put
from ssl_runner.run_folder.origin import is_elsewhere

PLACE = re.compile(r"(.*_)?(root|cache|folder|path|dir|file|labelled)")  # keys whose text is a path
PARTS = ("dataset", "evaluator", "init")  # of a config, which have such keys
TOKENIZER = "dataset.tokenizer"  # a path if it is a file of .json, else a name as bytes
INIT = ("init", "init.path")
MADE = "cache"  # ends the key of a folder that is made if it is absent


def names_path(key: str) -> bool:
    """Whether the text at a dotted key is a path."""
    return PLACE.fullmatch(key.rpartition(".")[2]) is not None


def relative_places(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and text of each relative path of a config's dataset, evaluators and initial weights."""
    for key, text in leaves({name: content.get(name) for name in PARTS}).items():
        named = key in INIT or (not key.startswith("init") and names_path(key))
        named = named or (key == TOKENIZER and str(text).endswith(".json"))
        if named and isinstance(text, str) and is_relative(text):
            yield key, text


def is_relative(path: str) -> bool:
    return "://" not in path and not path.startswith("~") and not Path(path).is_absolute()


def with_places(content: Mapping[str, Any], start: Path | None, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """The config with relative paths, or those of `keys` alone, made absolute from a folder; None: as they are."""
    whole = dict(content)
    for key, text in relative_places(content):
        if start is not None and (keys is None or key in keys):
            put(whole, key, str(start / text))
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
