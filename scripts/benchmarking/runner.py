"""`runner`: the job as a user runs it, by the trainer's own `fit`.

Counted: loader, augmentation, seeding, schedules, the whole step, checks for finite losses, and metrics.jsonl and
TensorBoard once in ten steps (a job's default is once in fifty): a turn of ten steps and more is a multiple of ten, and
in a shorter one, where a step is long, the log is written once. Not counted, since they come a few times in a run and
take as long however fast a step is: evaluators, checkpoints, pictures of views. Standard output is no terminal.
"""

import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarking.loop import whole
from benchmarking.place import synchronise
from benchmarking.work import LOG_EVERY, Work
from ssl_runner.engine.logbook import Logbook

WARM_UP = 2


class Clock:
    """Stands for the interrupt that is looked at before each step: notes the time, and ends after some steps."""

    def __init__(self, steps: int, wait: Any):
        self.steps, self.wait = steps, wait
        self.times: list[float] = []

    @property
    def signal(self) -> int | None:
        done = len(self.times)
        if done in (0, 1, WARM_UP, self.steps):  # at others the device may be behind, as it is in a run
            self.wait()
        self.times.append(time.perf_counter())
        return signal.SIGTERM if done == self.steps else None

    @signal.setter
    def signal(self, number: int) -> None: ...


def logged(steps: int) -> int:
    """The length of a turn of about so many steps, over which logs are spread evenly."""
    return whole(steps, LOG_EVERY) if steps > LOG_EVERY else steps


class Contestant:
    note, took = "", None

    def __init__(self, setting: Work, ours: bool = True):
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = setting.trainer(Path(self.folder.name))
        self.book = Logbook(Path(self.folder.name))
        self.reached = 0

    def turn(self, steps: int) -> int:
        return logged(steps)

    def run(self, steps: int) -> float:
        self.trainer.log_every = min(LOG_EVERY, steps)
        times = self.go_on(WARM_UP + steps)
        return (times[-1] - times[WARM_UP]) / steps

    def go_on(self, steps: int) -> list[float]:
        """When each of the next steps began, and when the last ended; as a run that is interrupted and resumed."""
        device = self.trainer.learner.device.device
        clock: Any = Clock(steps, lambda: synchronise(device))
        self.reached = self.trainer.fit(self.reached, self.book, clock)
        return clock.times

    def close(self) -> None:
        self.book.close()
        self.trainer.learner.loader.close()
        self.folder.cleanup()
