"""Checkpoints of several ranks: the first rank writes them, and chooses the one that all ranks load."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_runner.device import ranks
from ssl_runner.run_folder import checkpoint


def save_from_first(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Has the first rank write a checkpoint, and returns its path. If it cannot, every rank raises OSError."""
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


def load_by_first(states: Iterable[tuple[Path, dict[str, Any]]]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The checkpoints that the first rank can read, newest first; the others then load the same ones."""
    own, nothing = iter(states) if ranks.is_first() else iter(()), (None, dict[str, Any]())
    while True:
        path, state = next(own, nothing)
        if (path := ranks.of_first(path)) is None:
            return
        yield path, state if ranks.is_first() else checkpoint.load(path)
