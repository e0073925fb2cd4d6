"""Task of a worker of Slurm or Ray: starts the process of one job, reports its state by a file, passes on signals."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.run_folder.atomic import replacing
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import LOOK, Run
from ssl_runner.sweep.worker import run_process

RUNNING = "running"  # begins a report, with a number that grows; a job that has ended reports its exit status
BEAT = 10  # looks between two such reports
HALT = "halt"  # a file beside the reports: jobs save and end, as they do when the reports' folder is gone


@dataclass(frozen=True)
class Task:
    """A job as a worker of the program calls it. Returns its exit status, negative for the signal that killed it.

    The job has a process of its own: one that dies takes no worker along, and its peak memory is its own.

    Args:
        run: carries out the run of a folder in the process that calls it, and returns its exit status.
        folder: the run folder.
        report: file for the job's state.
        sweep: folder that a sweep on this machine locks; the job ends with it. None: it goes on without the sweep.
        cwd: folder that relative paths of the config start from.
    """

    run: Run
    folder: str
    report: str
    sweep: str | None
    cwd: str

    def __call__(self) -> int:
        if self.halted:
            return 128 + signal.SIGTERM
        os.chdir(self.cwd)
        os.environ["PYTHONSAFEPATH"] = "1"  # nothing is imported from there
        with note_signals() as signals:
            status = self.watch(signals)
            cut_off = bool(signals) and not 0 <= status < 128 and not self.halted
            if cut_off:
                self.settle(signals)
        if cut_off:
            self.requeue(signals[0])
        self.write(str(status))
        return status

    def watch(self, signals: list[int]) -> int:
        """Runs the job's process to its end. A signal or a halt reaches it as SIGTERM, once."""
        process = multiprocessing.get_context("spawn").Process(target=run_process, args=(self.run, self.folder))
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
        return int(process.exitcode or 0)

    def settle(self, signals: list[int]) -> None:
        """Waits until it is known whether a job that was cut off is to be queued again."""

    def requeue(self, number: int) -> None:
        """Has the program, which sent this signal, run the job again. Returns if it does not."""
        signal.raise_signal(number)

    @property
    def halted(self) -> bool:
        reports = Path(self.report).parent
        if not reports.is_dir() or (reports / HALT).exists():
            return True
        return self.sweep is not None and not held(Path(self.sweep))

    def write(self, state: str) -> None:
        with contextlib.suppress(OSError), replacing(Path(self.report)) as file:
            file.write(state.encode())


@contextlib.contextmanager
def note_signals() -> Iterator[list[int]]:
    """The signals of SIGNALS that have come; nothing else happens to the process for them."""
    signals: list[int] = []
    before = {each: signal.signal(each, lambda number, _: signals.append(number)) for each in SIGNALS}
    try:
        yield signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
