"""Process of one job of a sweep: group, signals, device, output; and the task by which Slurm or Ray starts it."""

import contextlib
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console

from ssl_runner.engine.console import Terminal
from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.errors import FAILED, REFUSED, Refused
from ssl_runner.run_folder.atomic import at_once, replacing
from ssl_runner.run_folder.layout import CONSOLE
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import LOOK, Run

RUNNING = "running"  # begins the report of a running job, before a number that grows; at its end it is its exit status
BEAT = 10  # looks between two such reports
HALT = "halt"  # a file beside the reports: jobs then save and end, as they do if the folder of reports is gone
# Slurm sends SIGTERM to a job that a person cancels, 30 s (KillWait) before SIGKILL, and to one that is preempted,
# before SIGUSR2 or before Slurm itself queues it again. A task waits to see which it was: a cancelled job must not
# queue itself.
GRACE = 90.0  # seconds


def run_job(resume: Callable[[Path, Console], int], folder: str, threads: int | None = None) -> int:
    """Begins or goes on with a run in this process, whose output goes to a file. Returns its exit status."""
    import torch

    with open(Path(folder) / CONSOLE, "a", encoding="utf-8", opener=at_once) as file:
        for stream in (sys.stdout, sys.stderr):  # and what libraries write to them
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    if threads is not None:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that a job on several devices starts
    try:
        return resume(Path(folder), Terminal(width=120))
    except Refused as reason:
        print(f"refused: {reason}", file=sys.stderr)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return FAILED


def run_process(run: Callable[[str], int], folder: str, visible: str | None = None) -> None:
    """Runs a job in a process of its own, which sees the CUDA devices `visible`. Ends it with the job's exit status."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    for number in SIGNALS:  # the server that it was forked from ignores them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    sys.exit(run(folder))


def kill_group(leader: int | None) -> None:
    """Kills the processes that a job's process may have left when it ended: those on its other devices."""
    if leader:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def end_with(parent: BaseProcess) -> None:
    """Has a job save and end if its sweep was killed, so that its folder is free when the sweep is resumed."""
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Task:
    """A job that a worker of Slurm or Ray calls. Returns its exit status, negative for the signal that killed it.

    The job has a process of its own, so that its death does not end the worker and its peak memory is its own.
    """

    run: Run
    folder: Path  # of the run
    report: Path  # file for the job's state
    sweep: Path | None  # folder that a sweep on this machine locks; the job ends with it. None: it goes on without
    cwd: Path  # folder that relative paths of the config start from

    def __call__(self) -> int:
        if self.halted:
            return 128 + signal.SIGTERM
        os.chdir(self.cwd)
        os.environ["PYTHONSAFEPATH"] = "1"  # nothing is imported from there
        signals: list[int] = []
        before = {each: signal.signal(each, lambda number, _: signals.append(number)) for each in SIGNALS}
        try:
            status = self.watch(signals)
            cut_off = bool(signals) and not 0 <= status < 128 and not self.halted
            until = time.monotonic() + (GRACE if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else 0)
            while cut_off and {*signals} == {signal.SIGTERM} and time.monotonic() < until:
                time.sleep(LOOK)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        if cut_off:
            self.requeue(signals[0])
        self.write(str(status))
        return status

    def watch(self, signals: list[int]) -> int:
        """Runs the job's process to its end. A signal or a halt reaches it as SIGTERM, once."""
        process = multiprocessing.get_context("spawn").Process(target=run_process, args=(self.run, str(self.folder)))
        process.start()
        looks, terminated = 0, False
        while process.is_alive():
            if looks % BEAT == 0:
                self.write(f"{RUNNING} {looks // BEAT}")
            looks += 1
            if not terminated and (signals or self.halted):
                terminated = True
                process.terminate()
            process.join(LOOK)
        kill_group(process.pid)
        return process.exitcode or 0

    def requeue(self, number: int) -> None:
        """Passes the signal on to the program's own handler, which may queue the job again. Returns if it does not."""
        signal.raise_signal(number)

    @property
    def halted(self) -> bool:
        reports = self.report.parent
        gone = not reports.is_dir() or (reports / HALT).exists()
        return gone or (self.sweep is not None and not held(self.sweep))

    def write(self, state: str) -> None:
        with contextlib.suppress(OSError), replacing(self.report) as file:
            file.write(state.encode())
