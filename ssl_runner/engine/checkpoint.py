"""Checkpoints that are whole or absent, and a way back to the newest whole one."""

import contextlib
import io
import json
import logging
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
log = logging.getLogger("ssl_runner")


class Unreadable(Exception):
    """A checkpoint that is torn, or of another program, or of another format."""


def write(path: Path, content: bytes | memoryview) -> None:
    """Replaces a file by new content, or leaves it as it was: temporary name, flush, fsync, rename. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's 0600 would hide a run from a group that shares the folder
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where it is absent or torn."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def save(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Writes `folder/0005000.pt` and then removes all but the newest `keep`. Raises OSError and removes nothing."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, buffer)
    path = folder / f"{step:07d}.pt"
    write(path, buffer.getbuffer())
    for old in steps(folder)[:-keep]:
        old.unlink(missing_ok=True)
    for torn in folder.glob(".*.tmp"):  # left by a process that was killed while it wrote
        torn.unlink(missing_ok=True)
    return path


def steps(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted((p for p in folder.glob("*.pt") if re.fullmatch(r"[0-9]+", p.stem)), key=lambda p: int(p.stem))


def load(path: Path) -> dict[str, Any]:
    """Raises Unreadable with the reason."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn pickle can raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unreadable(f"{path} cannot be read ({reason})") from None
    if not isinstance(state, dict) or not isinstance(state.get("step"), int) or "format" not in state:
        raise Unreadable(f"{path} is no checkpoint of ssl_runner")
    if state["format"] != FORMAT:
        raise Unreadable(f"{path} has format {state['format']}, and this version of ssl_runner reads format {FORMAT}")
    return state


def newest_first(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The checkpoints that can be read; each one that cannot is named in the log."""
    for path in reversed(steps(folder)):
        try:
            yield path, load(path)
        except Unreadable as reason:
            log.warning("%s; trying the one before it", reason)
