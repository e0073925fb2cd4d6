"""Atomic writes: files that are whole or absent, whatever cuts their writing off; bounded reads; and JSON."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

MOST = 2**28  # bytes of a file that is read whole
HALF = ".half"  # ends the name of what is being written
HALVES = f"*.{'?' * 8}{HALF}"  # such names: nothing of a user's is called so
YOUNG = 1  # second in which who has made a file locks it
ABANDONED = 3600  # seconds without a change after which it is nobody's any more; who writes does so more often


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written, which gets its name once it is synced, in place of one that has it. Raises OSError.

    Until then it lies beside the path as `NAME.*.half`, which is locked; if anything is raised, it is removed.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=HALF, delete=False) as file:
        try:
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)  # a temporary file's 0600 would hide it from a group that shares the folder
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path: Path, content: bytes | memoryview | str) -> None:
    """Replaces a file by new content, or leaves it as it was; makes the folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, indent=2) + "\n")


def at_once(path: str, flags: int) -> int:
    """An opener: a pipe in the place of a file does not wait for its other end."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def read_file(path: Path, most: int = MOST) -> bytes:
    """The content of a regular file of at most so many bytes. Raises OSError."""
    with open(path, "rb", opener=at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        if status.st_size > most:
            raise OSError(f"{path} has {status.st_size:,} bytes, and {most:,} at most are read")
        return file.read()


def read_text(path: Path) -> str:
    """The text of a file; empty if it is absent or cannot be read."""
    try:
        return read_file(path).decode(errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty if it is absent or torn."""
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def digest(content: Any, size: int = 8) -> str:
    """Hex digits that depend on plain values, whatever the order of their keys."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=size).hexdigest()


def remove_halves(path: Path) -> None:
    """Removes what killed runs left of this file, half written."""
    remove_abandoned(path.parent, path.name + HALVES.removeprefix("*"))


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes what killed runs left in a folder: files of a pattern that nobody holds, and folders without a change."""
    for half in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another run is at work or was faster, or they are another user's
            changed = max(each.lstat().st_mtime for each in (half, *half.rglob("*")))
            if time.time() - changed > ABANDONED:
                shutil.rmtree(half) if half.is_dir() else half.unlink()
            elif half.is_file() and time.time() - changed > YOUNG:
                with half.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    half.unlink()
