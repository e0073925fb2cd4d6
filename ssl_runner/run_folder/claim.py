"""Claiming a run folder: every run has one of its own."""

import secrets
import time
from pathlib import Path

from ssl_runner.errors import Refused
from ssl_runner.run_folder.layout import CONFIG


def claim(folder: Path) -> Path:
    """Makes a folder that no other run has. Raises Refused if it has anything in it or cannot be made."""
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"run folder: {error}") from None
    return folder


def check_free(folder: Path) -> None:
    """Raises Refused if a folder cannot be a new run's."""
    try:
        file = next((each for each in (folder, *folder.parents) if each.exists() and not each.is_dir()), None)
        taken = file is None and folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise Refused(f"run folder: {error}") from None
    if file is not None:
        raise Refused(f"run folder: {folder} cannot be made: {file} is a file; name another folder")
    if taken:
        go_on = f", or continue the run in it: ssl-runner resume {folder}" if (folder / CONFIG).exists() else ""
        raise Refused(f"run folder: {folder} exists and is not empty; name another folder{go_on}")


def claim_new(parent: Path) -> Path:
    """`parent/2026-01-31_12-00-00-1f3a`: two runs of the same second get different folders. Raises Refused."""
    while True:
        folder = parent / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise Refused(f"run folder: {error}") from None
        return folder
