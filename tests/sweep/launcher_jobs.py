"""Jobs for test_launchers.py that begin at once: what a launcher's workers run must be importable where they are."""

import json
import os
import signal
import subprocess
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
    if how == "devices":
        seen = {"devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": threads}
        (folder / "seen").write_text(json.dumps(seen))
        return 0
    if how in ("dies of two", "slow of two"):  # a process on another device, which outlives it
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        (folder / "other").write_text(str(other.pid))
        how = how.split()[0].replace("dies", "die")
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
