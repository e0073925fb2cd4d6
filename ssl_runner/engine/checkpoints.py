"""Checkpoints of several ranks: the first one writes them, and chooses which one all go on from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_runner.device import ranks
from ssl_runner.run_folder import checkpoint


def written_by_first(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """The checkpoint of a step, which the first rank writes. If it cannot, each of them raises OSError."""
    path, error = folder, None
    if ranks.is_first():
        try:
            path = checkpoint.save(folder, step, state, keep)
        except OSError as reason:
            error = reason
    path, error = ranks.of_first((path, error))
    if error is not None:
        raise error
    return path


def chosen_by_first(states: Iterable[tuple[Path, dict[str, Any]]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The checkpoints that the first rank can read, which the others then read as well."""
    own, nothing = iter(states) if ranks.is_first() else iter(()), (None, dict[str, Any]())
    while True:
        path, state = next(own, nothing)
        if (path := ranks.of_first(path)) is None:
            return
        yield path, state if ranks.is_first() else checkpoint.load(path)
