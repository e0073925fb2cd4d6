"""Signals: Ctrl-C and a scheduler's SIGTERM as a request to save and end, which the loop reads between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

from ssl_runner.engine.clock import clock

# They come from a person, a system that shuts down, a terminal that is closed, Slurm before it preempts a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Interrupt:
    """While entered, the first of these signals is noted in `.signal`. Only a second Ctrl-C acts as it usually does.

    A scheduler and the sweep that a run belongs to may both ask it to end, and it must save first all the same.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()  # by nohup
            for number in set(SIGNALS) - ignored:  # one by one: a Ctrl-C may come between two of them
                self._before[number] = signal.signal(number, self._note)
            self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, clock.leave_out_stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
