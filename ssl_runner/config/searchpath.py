"""`hydra.searchpath`: further folders of configs, typed or named by the config to start from; looked in before ours."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.config.grammar import read_overrides
from ssl_runner.config.override import get
from ssl_runner.config.trust import distrust

KEY = "hydra.searchpath"


def search_folders(typed: Sequence[str], own: Sequence[Path], name: str) -> tuple[list[Path], list[str]]:
    """The folders, and a line for each that cannot be had.

    `typed`: words; without one of the key, the config `name` in the folders `own` says it. An entry is a folder,
    file://FOLDER or pkg://PACKAGE.FOLDER; a relative one starts from the current folder.
    """
    words = [each for each in read_overrides(each for each in typed if KEY in each)[0] if each.key == KEY]
    value = words[-1].value if words else named([folder / f"{name}.yaml" for folder in own])
    entries = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    folders, problems = list[Path](), []
    for entry in map(str, entries):
        try:
            folders += located(entry)
        except ValueError as error:
            problems.append(f"{KEY}: given {entry}, {error}")
    return folders, problems


def named(files: Sequence[Path]) -> Any:
    """What the first of the files that is there has of the key."""
    file = next((each for each in files if each.is_file()), None)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None  # Hydra has its own words for it
    return get(content, KEY)


def located(entry: str) -> Iterator[Path]:
    """The folder of an entry. Raises ValueError if there is none, or to find it would run a stranger's code."""
    scheme, separator, rest = entry.rpartition("://")
    if scheme == "pkg":
        if why := distrust(f"{rest}.conf"):  # to look into a package is to import it
            raise ValueError(f"whose package is not trusted; {why.partition('; ')[2]}")
        try:
            spec = importlib.util.find_spec(rest)
        except ImportError:
            spec = None
        places = [*(spec.submodule_search_locations or ())] if spec else []
        if not places:
            raise ValueError("and there is no such package")
        yield Path(places[0]).resolve()
    elif separator and scheme != "file":
        raise ValueError("possible are FOLDER, file://FOLDER and pkg://PACKAGE.FOLDER")
    elif not Path(rest).is_dir():
        raise ValueError("and there is no such folder")
    else:
        yield Path(rest).resolve()
