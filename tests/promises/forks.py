"""Commands carried out in forks of a warmed-up process: a killed, hung or greedy one harms nobody, and all start fast.

    python forks.py < [{"words": [...], "folder": "...", "operation": null or n}, ...]

Prints a JSON list of {"status", "seconds", "printed", "operations", "ran"}. With "operation", the process is killed
with -9 before its n-th file operation below the folder. "ran": programs that were started, but for git and uname.
"""

import contextlib
import json
import multiprocessing.connection
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

SECONDS = 30  # after which a command hangs
SLOW = 20  # seconds, which no case of the fuzzers may take
LEFT = (".lock", "run.log")  # what a refused resume may add to a folder
MEMORY = 6 << 30  # bytes
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
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


def files_of(folder: Path) -> set[str]:
    """All that lies in a folder, by name."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def faults(cases: list[dict], outcomes: list[dict], before: list[set[str]]) -> list[dict]:
    """The cases that broke a promise, each with its fault and what was printed. `before`: what lay in each folder."""
    wrong = []
    for case, outcome, there in zip(cases, outcomes, before, strict=True):
        status, printed = outcome["status"], outcome["printed"]
        new = files_of(Path(case["folder"])) - there
        signs = {
            "a traceback": "Traceback" in printed,
            f"status {status}": status not in (0, 1, 2, 3),
            f"{outcome['seconds']} s": outcome["seconds"] > SLOW,
            "no word": not printed.strip(),
            f"ran {outcome['ran']}": bool(outcome["ran"]),
            "code ran": any("touched" in name for name in new),
            f"left {sorted(new)[:5]}": status == 2 and any(not name.endswith(LEFT) for name in new),
        }
        if any(signs.values()):
            fault = ", ".join(name for name, sign in signs.items() if sign)
            shown = {**case, "words": [word[:200] for word in case["words"]]}
            wrong.append({**shown, "fault": fault, "printed": printed[-1500:]})
    return wrong


class Operations:
    """Counts the file operations below a folder; kills the process before the one whose turn it is."""

    def __init__(self, folder: Path, last: int | None):
        self.folder, self.last, self.names, self.ran = f"{folder}{os.sep}", last, [], []

    def __call__(self, event: str, arguments: tuple) -> None:
        if event in PROGRAMS and arguments[0] not in ("git", "uname"):  # uname: by the module platform
            self.ran.append(f"{event} {arguments[:2]}")
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

        try:
            status = main(words)
        except SystemExit as stop:  # of argparse
            status = stop.code if isinstance(stop.code, int) else 1
        counted.write_text(json.dumps({"operations": operations.names, "ran": operations.ran}))
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
    from ssl_runner.sweep import run  # noqa: F401
    from ssl_runner.sweep.launcher import local

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # a job of a sweep then starts at once, and its operations are counted
    local.multiprocessing = SimpleNamespace(get_context=lambda _: fork, connection=multiprocessing.connection)
    local.start_server = lambda: None
    place = Path(sys.argv[1])
    told, counted = place / "printed.txt", place / "operations.json"
    done = []
    for case in json.load(sys.stdin):
        counted.unlink(missing_ok=True)
        began = time.monotonic()
        status = in_fork(case["words"], Path(case["folder"]).resolve(), told, counted, case.get("operation"))
        operations = json.loads(counted.read_text()) if counted.exists() else {"operations": [], "ran": []}
        seconds, printed = round(time.monotonic() - began, 2), told.read_text(errors="replace")
        done.append({"status": status, "seconds": seconds, "printed": printed, **operations})
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
