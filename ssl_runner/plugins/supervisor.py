"""What a launcher's worker does: it watches over one job, which has a process of its own as in the local queue.

So no job takes others with it when it dies, its peak memory is its own, and a worker may be used again.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.run_folder.atomic import replacing

LOOK = 0.5  # seconds between two looks at the job
BEAT = 10  # looks between two signs of life
HALT = "halt"  # a file of this name among the reports is a wish that the jobs save and end
HALTED = 128 + signal.SIGTERM  # exit status of a job that was not begun for that
RUNNING = "running"
# Slurm's SIGTERM comes to a job that a person has cancelled, 30 s (KillWait) before SIGKILL; and to one that is
# preempted, before SIGUSR2 or before Slurm itself queues it again. So what is to come is waited for: a cancelled job
# must not queue itself.
GRACE = 90.0  # seconds


@dataclass(frozen=True)
class Supervisor:
    """Carries out job number `config.job`. Returns its exit status, negative for the signal that killed it.

    Args:
        folders: run folders by number.
        reports: folder in which the state of each job stands in a file. Where it is gone, so is whoever wants the jobs.
        work: begins or goes on with the run of a folder and ends the process with its exit status.
    """

    folders: tuple[str, ...]
    reports: str
    work: Callable[[str], None]

    def __call__(self, config: Any) -> int:
        number = int(config.job)
        if self.halted:
            return HALTED
        submitit = os.environ.get("SUBMITIT_EXECUTOR")
        with noted() as signals:
            status = self.watch(number, signals)
            again = submitit is not None and bool(signals) and not 0 <= status < 128 and not self.halted
            if again and submitit == "slurm":
                wait_for_others(signals)
        if again:
            queue_again()
        self.say(number, str(status))
        if signals and submitit is None:
            signal.raise_signal(signals[0])  # it was for the worker too, which has nothing to save any more
        return status

    def watch(self, number: int, signals: list[int]) -> int:
        """Runs the job's process to its end; a signal or a wish to halt is passed on to it as SIGTERM, once."""
        multiprocessing.set_start_method("spawn", force=True)  # joblib's workers have one that no other process knows
        process = multiprocessing.Process(target=self.work, args=(self.folders[number],))
        process.start()
        looks, passed_on = 0, False
        while process.is_alive():
            if looks % BEAT == 0:
                self.say(number, f"{RUNNING} {looks // BEAT}")
            looks += 1
            if not passed_on and (signals or self.halted):
                passed_on = True
                process.terminate()
            process.join(LOOK)
        return int(process.exitcode or 0)

    @property
    def halted(self) -> bool:
        return not Path(self.reports).is_dir() or (Path(self.reports) / HALT).exists()

    def say(self, number: int, state: str) -> None:
        with contextlib.suppress(OSError), replacing(Path(self.reports) / str(number)) as file:
            file.write(state.encode())


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """The signals of SIGNALS that have come; nothing else happens to the process for them."""
    signals: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, lambda number, _: signals.append(number)) for each in SIGNALS}
    try:
        yield signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def wait_for_others(signals: list[int]) -> None:
    """After SIGTERM alone: whoever sent it may have more to say, and SIGKILL is heard without listening."""
    until = time.monotonic() + GRACE
    while set(signals) == {signal.SIGTERM} and time.monotonic() < until:
        time.sleep(LOOK)


def queue_again() -> None:
    """Has submitit queue the job again, and ends the process; returns where submitit will not have it any more."""
    from submitit import JobEnvironment

    try:
        signal.raise_signal(signal.Signals[f"SIG{JobEnvironment.USR_SIG}"])  # submitit's own handler of it does that
    except Exception as error:
        print(f"not queued again: {error}", file=sys.stderr)
