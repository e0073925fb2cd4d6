"""Config files: read in the newest format, written as YAML."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ssl_runner.config.migrate import KEY, migrated, newest, stamped, writer_of
from ssl_runner.errors import one_line
from ssl_runner.run_folder.atomic import read_file, write
from ssl_runner.run_folder.layout import CONFIG, GROUPS, OVERRIDES

MOST, DEEPEST = 1_000_000, 50  # bytes or values of a config, and mappings or lists in one another
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast if libyaml is there


def read(path: Path, kind: type = dict) -> Any:
    """A resolved config (a mapping) in the newest format, or a list of overrides, from a file.

    Raises OSError, or ValueError if the file is torn, holds something else, or has a format that is not read here.
    """
    try:
        content = parse_yaml(text := read_file(path, MOST).decode())
        if kind is dict and not text.endswith("\n"):  # an empty list has none
            raise ValueError("its last line has no end: it was cut off; if it was not, add one")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is torn or no YAML ({one_line(error)[:300]})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path} is torn: it holds no {'config' if kind is dict else kind.__name__}")
    return migrated(content, str(path), writer_of(path.parent)) if isinstance(content, dict) else content


def parse_yaml(text: str) -> Any:
    """Plain values of a YAML file. Raises yaml.YAMLError, RecursionError, or ValueError if they are too many.

    Aliases may repeat a node; a file whose nodes would be more than MOST values, written out, is refused.
    """
    content = yaml.load(text, LOADER)
    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if id(node) not in sizes and isinstance(node, dict | list):
            parts = [*node.keys(), *node.values()] if isinstance(node, dict) else node
            sizes[id(node)] = MOST + 1  # of a node in itself
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        return sizes.get(id(node), 1)

    if size(content, 0) > MOST:
        raise ValueError(f"its aliases stand for more than {MOST:,} values")
    return content


def choice_content(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """What the file of `group/choice` has, in the first folder that has it, laid over what it builds on.

    A file that is absent or broken has nothing: whoever chooses it is told why.
    """
    below: dict[str, Any] = {}
    try:
        file = next(path for each in folders if (path := each / f"{name}.yaml").is_file())
        content = parse_yaml(file.read_text(encoding="utf-8"))
        for other in content.pop("defaults", ()):
            if isinstance(other, str) and other != "_self_":
                below |= choice_content(folders, f"{name.partition('/')[0]}/{other.partition('@')[0]}")
        return below | content
    except (StopIteration, OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return {}


def dump(content: Any) -> str:
    """Plain values as YAML, in their order."""
    return OmegaConf.to_yaml(OmegaConf.create(content))


def write_config(folder: Path, overrides: Sequence[str], content: Mapping[str, Any]) -> None:
    """Writes what was typed and then the config, with which the folder is a run's. Raises OSError."""
    write(folder / OVERRIDES, dump(list(overrides)))
    write(folder / CONFIG, dump(stamped(content)))


def format_of(folders: Sequence[Path], place: str) -> int:
    """The format of a recipe, or of a config of a user's own to start from, in the first folder that has it.

    Raises ValueError, with what to do, if it is the whole config of a run, lacks its header or cannot be read here.
    """
    path = next((folder / place for folder in folders if (folder / place).is_file()), None)
    try:
        text = read_file(path, MOST).decode() if path else ""
        content = parse_yaml(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        content = None  # Hydra has its own words for it
    if path is None or not isinstance(content, dict):
        return newest()
    migrated(content, place, writer_of(path.parent))
    if place.startswith("experiment/") and isinstance(node := content.get("hydra"), dict) and "searchpath" in node:
        raise ValueError(f"{place}: hydra.searchpath: is for the config to start from; type hydra.searchpath=[FOLDER]")
    if all(isinstance(node := content.get(group), dict) and "_target_" in node for group in GROUPS):
        raise ValueError(f"{place}: is the whole config of a run; type ssl-runner rerun {path}")
    if place.startswith("experiment/") and not re.match(r"(#.*\n)*#\s*@package\s+_global_\s", text):
        raise ValueError(f"{place}: is a recipe, and so its first line must be # @package _global_")
    return content.get(KEY, 1)
