"""Clock of a run: seconds in which the process ran, without those in which it was stopped, as by Ctrl-Z."""

import time
from types import FrameType


class Clock:
    """Seconds since some moment. Its handler of SIGCONT leaves out a stop that has just ended.

    No signal says when a stop began. The main thread computes or waits for a device actively, so that since the clock
    was last read the process ran for as long as this thread was busy, and stood still for the rest.
    """

    def __init__(self) -> None:
        self._left_out = 0.0
        self._read = (time.perf_counter(), time.thread_time())  # when it was last read, and how busy the thread was

    def __call__(self) -> float:
        self._read = (time.perf_counter(), time.thread_time())
        return self._read[0] - self._left_out

    def leave_out_stop(self, number: int, frame: FrameType | None) -> None:
        before, now = self._read, (time.perf_counter(), time.thread_time())
        self._left_out += max(0.0, (now[0] - before[0]) - (now[1] - before[1]))
        self._read = now


clock = Clock()  # of this process
