"""Run folders: claimed by one run, locked by the process that writes in them."""

import contextlib
import fcntl
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from ssl_runner.errors import Refused
from ssl_runner.run_folder.atomic import HALF, HALVES, at_once
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, LOCK, OVERRIDES


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds a folder for this process; the lock goes with the process, however it ends.

    What processes that were killed had half written there is removed. If another process holds the folder: waits, or
    raises Refused. Raises OSError if the folder cannot be written.
    """
    with open(folder / LOCK, "w", opener=at_once) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Refused(f"{folder} is being written by a running process; wait for it or stop it") from None
        for half in (*folder.glob(HALVES), *folder.glob(f"{CHECKPOINTS}/{HALVES}")):
            with contextlib.suppress(OSError):
                half.unlink()
        yield


def held(folder: Path) -> bool:
    """Whether a process is at work in a run folder. A shared lock that is let go at once cannot disturb it."""
    try:
        with open(folder / LOCK, "rb", opener=at_once) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def claim(folder: Path) -> Path:
    """Makes a folder that no other run has. Raises Refused if it has anything in it or cannot be made."""
    check_free(folder)
    with refuse_errors():
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_free(folder: Path) -> None:
    """Raises Refused if a folder cannot be a new run's."""
    with refuse_errors():
        file = next((each for each in (folder, *folder.parents) if each.exists() and not each.is_dir()), None)
        # A folder that was claimed by a process which was killed before there was a run is begun again.
        inside = folder.iterdir() if file is None and folder.exists() else ()
        taken = any(each.name not in (LOCK, OVERRIDES) and each.suffix != HALF for each in inside)
    if file is not None:
        raise Refused(f"run folder: {folder} cannot be made: {file} is a file; name another folder")
    if taken:
        go_on = f", or continue the run in it: ssl-runner resume {folder}" if (folder / CONFIG).exists() else ""
        raise Refused(f"run folder: {folder} exists and is not empty; name another folder{go_on}")


def claim_new(parent: Path) -> Path:
    """`parent/2026-01-31_12-00-00-1f3a`: two runs of the same second get different folders. Raises Refused."""
    while True:
        folder = parent / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(2)}"
        with refuse_errors(), contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder


@contextlib.contextmanager
def refuse_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(f"run folder: {error}") from None
