"""Commands carried out in forks of a warmed-up process: a killed, hung or greedy one harms nobody, and all start fast.

    python forks.py < [{"words": [...], "folder": "...", "operation": null or n, "whose": "own" or "jobs",
                         "after": seconds}, ...]

Prints a JSON list of {"status", "seconds", "printed", "own", "jobs", "ran"}: names of the file operations below the
folder, of the process and of the jobs that it forks, and programs that were started, but for those that are expected.
With "operation", the process, or the job, is killed with -9 before its n-th such operation; with "after", so many
seconds after its start.
"""

import contextlib
import io
import json
import mmap
import multiprocessing.connection
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

WARM = ["dataset.images=100", "batch_size=16", "length=1st", "log_every=1st", "evaluator=[knn]", "evaluator.knn.k=3"]
WARM += ["device=cpu", "model.widths=[8]"]
SECONDS = 30  # after which a command hangs
SLOW = 20  # seconds, which no case of the fuzzers may take
LEFT = (".lock", "run.log")  # what a refused resume may add to a folder
MEMORY = 6 << 30  # bytes
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
EXPECTED = ("git", "uname", "g++", "openssl")  # uname: by the module platform; the last two: by torch.compile
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


def carry_out(cases: list[dict], tmp_path: Path) -> list[dict]:
    """The cases in a process of their own, from a test."""
    process = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        input=json.dumps(cases),
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"},
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
        at_work = status == -signal.SIGALRM and "run folder:" in printed  # a run takes as long as its settings say
        new = files_of(Path(case["folder"])) - there
        signs = {
            "a traceback": "Traceback" in printed,
            f"status {status}": status not in (0, 1, 2, 3) and not at_work,
            f"{outcome['seconds']} s": outcome["seconds"] > SLOW and not at_work,
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


def require_no_faults(cases: list[dict], tmp_path: Path) -> None:
    """Carries out cases, and prints those that broke a promise."""
    before = [files_of(Path(case["folder"])) for case in cases]
    found = faults(cases, carry_out(cases, tmp_path), before)
    for case in found:
        print(json.dumps(case, indent=1))
    assert not found, f"{len(found)} of {len(cases)}: {[case['fault'] for case in found]}"


class Operations:
    """Counts the file operations below a folder; kills the process before the one whose turn it is.

    `log` gets a line for each: whose it is, "own" or that of "jobs", processes which this one has forked; and its name.
    `last`: the number among those of one of them, and of whom.
    """

    def __init__(self, folder: Path, log: int, last: int | None, whose: str):
        self.folder, self.log, self.last, self.whose, self.ran = f"{folder}{os.sep}", log, last, whose, []
        self.owner, self.counts = os.getpid(), memoryview(mmap.mmap(-1, 16)).cast("q")  # shared with the jobs

    def __call__(self, event: str, arguments: tuple) -> None:
        if event in PROGRAMS and arguments[0] not in EXPECTED:
            self.ran.append(f"{event} {arguments[:2]}")
        if event != "open" and event not in CHANGES:
            return
        path = arguments[0]
        if event == "open" and (isinstance(path, int) or not arguments[2] & WRITES):
            return
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  a link stays what it is
        if path.startswith(self.folder):
            own = os.getpid() == self.owner
            whose = "own" if own else "jobs"
            if self.counts[own] == self.last and whose == self.whose:
                self.last = None
                os.kill(os.getpid(), signal.SIGKILL)
            self.counts[own] += 1
            os.write(self.log, f"{whose} {event} {path.removeprefix(self.folder)}\n".encode())


def in_fork(case: dict, told: Path, counted: Path, ran: Path) -> int:
    """The exit status of a command, or the negative signal that killed it."""
    process = os.fork()
    if process:
        if "after" in case:
            time.sleep(case["after"])
            os.kill(process, signal.SIGKILL)  # which does nothing to one that has ended
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 70
    try:
        folder = Path(case["folder"]).resolve()
        os.chdir(folder)
        with told.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        log = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        operations = Operations(folder, log, case.get("operation"), case.get("whose", "own"))
        sys.addaudithook(operations)
        from ssl_runner.__main__ import main

        try:
            status = main(case["words"])
        except SystemExit as stop:  # of argparse
            status = stop.code if isinstance(stop.code, int) else 1
        ran.write_text(json.dumps(operations.ran))
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
    from ssl_runner.run.session import begin_new  # noqa: F401
    from ssl_runner.sweep import run  # noqa: F401
    from ssl_runner.sweep.launcher import local

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # a job of a sweep then starts at once, and its operations are counted
    local.multiprocessing = SimpleNamespace(get_context=lambda _: fork, connection=multiprocessing.connection)
    local.start_fork_server = lambda *modules: None
    place = Path(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):  # what the first run imports
        train.main([*WARM, f"hydra.run.dir={place / 'warm'}"])
    shutil.rmtree(place / "warm")
    told, counted, ran = place / "printed.txt", place / "operations.txt", place / "ran.json"
    done = []
    for case in json.load(sys.stdin):
        counted.write_text("")
        ran.write_text("[]")
        began = time.monotonic()
        status = in_fork(case, told, counted, ran)
        started = json.loads(ran.read_text() or "[]")  # empty if it was killed while it wrote
        outcome = {"status": status, "seconds": round(time.monotonic() - began, 2), "ran": started}
        lines = [line.partition(" ") for line in counted.read_text().splitlines()]
        outcome |= {whose: [name for by, _, name in lines if by == whose] for whose in ("own", "jobs")}
        done.append(outcome | {"printed": told.read_text(errors="replace")})
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
