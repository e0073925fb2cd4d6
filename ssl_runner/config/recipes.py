"""Recipes and configs of a user's own, made current before Hydra composes them."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.config.migrate import migrated, writer_of
from ssl_runner.run_folder.layout import GROUPS

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast if libyaml is there
HEADER = re.compile(r"(#.*\n)*#\s*@package\s+_global_\s")


@contextmanager
def current_folders(folders: Sequence[Path], name: str, experiment: str | None) -> Iterator[Sequence[Path]]:
    """The folders to compose a config from; before them one with migrated copies of older files, if there are any.

    Raises ValueError if the config to start from or the recipe cannot be migrated, is the whole config of a run, or
    lacks its header.
    """
    start, recipe = f"{name}.yaml", f"experiment/{experiment}.yaml"
    copies: dict[str, str | None] = {}  # None for a file that is current
    for folder in folders:
        for path in [folder / start, *(sorted(folder.glob("experiment/**/*.yaml")) if experiment else ())]:
            place = path.relative_to(folder).as_posix()
            if place not in copies and path.is_file():
                try:
                    copies[place] = current_text(path, place)
                except (OSError, ValueError, yaml.YAMLError) as error:
                    copies[place] = None
                    if place in (start, recipe) and isinstance(error, ValueError):
                        raise  # else Hydra has its own words, or nobody asks for the file
    older = {place: text for place, text in copies.items() if text is not None}
    with tempfile.TemporaryDirectory() as temporary:
        for place, text in older.items():
            (Path(temporary) / place).parent.mkdir(exist_ok=True)
            (Path(temporary) / place).write_text(text)
        yield [Path(temporary), *folders] if older else folders


def current_text(path: Path, place: str) -> str | None:
    """A file in the newest format; None if it is. Raises ValueError with what to do about it."""
    text = path.read_text()
    content = yaml.load(text, LOADER)
    if not isinstance(content, dict):
        return None
    current = migrated(content, place, writer_of(path.parent))
    if "defaults" not in content and is_whole(content):
        raise ValueError(f"{place}: is the whole config of a run; type ssl-runner rerun {path}")
    header = HEADER.match(text)
    if place.startswith("experiment/") and header is None:
        raise ValueError(f"{place}: is a recipe, and so its first line must be # @package _global_")
    if current == content:
        return None
    return (header[0] + "\n" if header else "") + yaml.safe_dump(current, sort_keys=False, allow_unicode=True)


def is_whole(content: Mapping[str, Any]) -> bool:
    """Whether every group of a job is there with its class."""
    return all(isinstance(node := content.get(group), Mapping) and "_target_" in node for group in GROUPS)
