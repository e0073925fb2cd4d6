"""Hydra's `--cfg`, `--package` and `--info`: a composed config printed whole or in part, and where it came from."""

from collections.abc import Sequence
from typing import Any

from ssl_runner.config.compose import Composer
from ssl_runner.config.composed import Composed
from ssl_runner.config.files import dump
from ssl_runner.config.grammar import encoded
from ssl_runner.config.hydra import print_info, resolve_node
from ssl_runner.config.migrate import stamped
from ssl_runner.config.override import ABSENT, get, paths
from ssl_runner.config.words import read_words
from ssl_runner.errors import nearest

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def config_text(composed: Composed, kind: str, package: str | None = None, whole: bool = False) -> str:
    """A job's config as YAML, or what it has at a `package`, as in optimizer. Raises ValueError if there is no such.

    `kind`: job, hydra (Hydra's own node) or all. `whole`: interpolations of Hydra's node are resolved; the job's are.
    """
    content: dict[str, Any] = {} if kind == "hydra" else stamped(composed.content)
    if kind != "job":
        content["hydra"] = resolve_node(composed.hydra) if whole else composed.hydra
    if package in (None, "_global_"):
        return dump(content)
    part = get(content, package)
    if part is ABSENT:
        known = [key for key, _ in paths(content)]
        raise ValueError(f"--package: given {package}, which the config lacks{nearest(str(package), known)}")
    return f"# @package {package}\n{dump(part)}" if isinstance(part, dict | list) else f"{part}\n"


def show_info(composer: Composer, kind: str, overrides: Sequence[str]) -> list[str]:
    """Prints what Hydra says of a composition; a line for each thing that is wrong with it."""
    composed = composer.compose(overrides)
    if composed.problems:
        return composed.problems
    words = [each.removeprefix("+") if each.startswith("+experiment=") else each for each in composed.chosen]
    for each in read_words(overrides, composer.groups)[0]:
        value = get(composed.content, each.key)
        if each.key not in composer.groups and each.key.partition(".")[0] != "hydra":
            words.append(f"~{each.key}" if value is ABSENT else f"++{each.key}={encoded(value)}")
    try:
        print_info(composer.folders, composer.name, kind, words)
    except ValueError as error:
        return [str(error)]
    return []
