"""Locks on a run folder: held by the process that writes in it, and asked for by others."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from ssl_runner.errors import Refused
from ssl_runner.run_folder.layout import LOCK


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder for this process; the lock goes with the process, however it ends.

    Where another process holds it: waits, or raises Refused. Raises OSError if the folder cannot be written.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Refused(f"{folder} is being written by a running process; wait for it or stop it") from None
        yield


def held(folder: Path) -> bool:
    """Whether a process is at work in a run folder. A shared lock that is let go at once cannot disturb it."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
