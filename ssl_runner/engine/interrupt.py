"""Signals: Ctrl-C and a scheduler's SIGTERM as a request to save and end, and a clock that a stop by Ctrl-Z stops."""

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from types import FrameType
from typing import Any

# They come from a person, a system that shuts down, a terminal that is closed, Slurm before it preempts a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Clock:
    """Seconds in which the process was not stopped (Ctrl-Z): its handler of SIGCONT leaves out the stop that ended.

    No signal says when a stop began. The main thread computes or waits for a device actively, so that since the clock
    was last read the process ran for as long as this thread was busy, and stood still for the rest. The kernel may hand
    the signal to another thread, which has to run before Python hears of it. So a reading waits for it if the rest was
    far longer than any before: by a twentieth of the rest, and 0.2 s at most.
    """

    REST, LOOK, WAIT = 0.5, 0.005, 0.2  # seconds

    def __init__(self) -> None:
        self._left_out = 0.0
        self.start()

    def start(self) -> None:
        """Reads it where a run begins: until then the process, or that which it was forked from, may have been idle."""
        self._read = (time.perf_counter(), time.thread_time())  # when it was last read, and how busy the thread was
        self._usual = self.REST  # a shorter rest is taken for waiting, as for data or for other processes

    def __call__(self) -> float:
        before, rest = self._read, self._rest()
        end = time.perf_counter() + min(rest / 20, self.WAIT)
        while rest > self._usual and self._read is before and time.perf_counter() < end:
            time.sleep(self.LOOK)
        if self._read is before:  # it was no stop
            self._usual = max(self._usual, 2 * rest)
        self._read = (time.perf_counter(), time.thread_time())
        return self._read[0] - self._left_out

    def leave_out_stop(self, number: int, frame: FrameType | None) -> None:
        self._left_out += max(0.0, self._rest())
        self._read = (time.perf_counter(), time.thread_time())

    def _rest(self) -> float:
        return time.perf_counter() - self._read[0] - (time.thread_time() - self._read[1])


clock = Clock()  # of this process


class Interrupt:
    """While entered, the first of these signals is noted in `.signal`. Only a second Ctrl-C ends the process at once.

    Other signals may be repeated, as by a scheduler and by the sweep that a run belongs to: it must save all the same.
    `notice`: printed at the first signal, since a measurement may go on for long before anything else is seen.
    """

    def __init__(self, notice: str = "") -> None:
        self.signal: int | None = None
        self.notice = notice
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        clock.start()
        if threading.current_thread() is threading.main_thread():
            ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()  # by nohup
            for number in set(SIGNALS) - ignored:  # one by one: a Ctrl-C may come between two of them
                self._before[number] = signal.signal(number, self._note)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # who started the process may have had them wait
            self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, clock.leave_out_stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None and self.notice:
            with suppress(OSError):  # no print: a handler may have come into the midst of one
                os.write(2, f"\n{signal.Signals(number).name}: {self.notice}\n".encode())
        self.signal = self.signal or number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])


def start_fork_server(*preloaded: str) -> None:
    """Starts the process that others are forked from, with these modules imported already, if there is none.

    A signal to this process's group does not end it. Until it has said that it ignores them, the signals are blocked in
    it, as they are here when it is started.
    """
    forkserver.set_forkserver_preload(["ssl_runner.engine.fork_server", *preloaded])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # it unblocks some of them here
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
