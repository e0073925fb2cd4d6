"""Commands carried out in forks of a warmed-up process: a killed, hung or greedy one harms nobody, and all start fast.

    python forks.py < [{"words": [...], "folder": "...", "operation": null or n}, ...]

Prints a JSON list of {"status", "seconds", "printed", "operations"}. With "operation", the process is killed with -9
before its n-th file operation below the folder.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SECONDS = 60  # after which a command hangs
MEMORY = 6 << 30  # bytes
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


def carry_out(cases: list[dict], tmp_path: Path) -> list[dict]:
    """The cases in a process of their own, from a test."""
    process = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        input=json.dumps(cases),
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


class Operations:
    """Counts the file operations below a folder; kills the process before the one whose turn it is."""

    def __init__(self, folder: Path, last: int | None):
        self.folder, self.last, self.names = f"{folder}{os.sep}", last, []

    def __call__(self, event: str, arguments: tuple) -> None:
        if event != "open" and event not in CHANGES:
            return
        path = arguments[0]
        if event == "open" and (isinstance(path, int) or not arguments[2] & WRITES):
            return
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  a link stays what it is
        if path.startswith(self.folder):
            if len(self.names) == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.names.append(f"{event} {path.removeprefix(self.folder)}")


def in_fork(words: list[str], folder: Path, told: Path, counted: Path, last: int | None) -> int:
    """The exit status of a command, or the negative signal that killed it."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 70
    try:
        os.chdir(folder)
        with told.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        operations = Operations(folder, last)
        sys.addaudithook(operations)
        from ssl_runner.__main__ import main

        status = main(words)
        counted.write_text(json.dumps(operations.names))
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    import torch
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401  the forks share what is imported here

    from ssl_runner.command import compare, evaluate, export, rerun, resume, save, sweep, train  # noqa: F401
    from ssl_runner.evaluation.measure import Evaluation  # noqa: F401
    from ssl_runner.run.session import begin  # noqa: F401

    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    told, counted = place / "printed.txt", place / "operations.json"
    done = []
    for case in json.load(sys.stdin):
        counted.unlink(missing_ok=True)
        began = time.monotonic()
        status = in_fork(case["words"], Path(case["folder"]).resolve(), told, counted, case.get("operation"))
        operations = json.loads(counted.read_text()) if counted.exists() else []
        seconds, printed = round(time.monotonic() - began, 2), told.read_text(errors="replace")
        done.append({"status": status, "seconds": seconds, "printed": printed, "operations": operations})
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
