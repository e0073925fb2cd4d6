"""Jobs for test_launchers.py that begin at once: what a launcher's workers run must be importable where they are."""

import os
import signal
import sys
import time
from pathlib import Path


def run(name, threads=1):
    """Does what the folder's file `how` says: an exit status, a death, something slow that saves, or a real run."""
    folder = Path(name)
    with (folder / "begun").open("a") as file:
        print(os.getppid(), file=file)
    how = (folder / "how").read_text()
    if how == "run":
        from ssl_runner.command.sweep import run_job

        return run_job(name, threads)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how != "slow":
        return int(how)
    if not (folder / "saved").exists():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        try:
            (folder / "ready").touch()
            time.sleep(100)
        finally:
            (folder / "saved").touch()
    return 0
