"""Jobs for test_plugins.py that begin at once: what a launcher's workers run must be importable where they are."""

import os
import signal
import sys
import time
from pathlib import Path


def work(name: str) -> None:
    """Does what the folder's file `how` says: an exit status, a death, something slow that saves, or a real run."""
    folder = Path(name)
    with (folder / "begun").open("a") as file:
        print(os.getppid(), file=file)
    how = (folder / "how").read_text()
    if how == "run":
        from ssl_runner.sweep.worker import work as carry_out

        carry_out(name, 1, None)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "slow" and not (folder / "saved").exists():
        signal.signal(signal.SIGTERM, lambda *_: save(folder))
        (folder / "ready").touch()
        time.sleep(100)
    sys.exit(0 if how == "slow" else int(how))


def save(folder: Path) -> None:
    (folder / "saved").touch()
    sys.exit(128 + signal.SIGTERM)
