"""How everybody's steps are timed.

Worker processes that start together hand over their batches in waves, one each: between waves a loop lives on what was
fetched ahead. So steps are counted from just after the first batch of a wave, and over whole waves.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarking.place import Place


def timed(place: Place, batches: Iterator[Any], learn: Callable[[Any], None], warm_up: int, steps: int) -> float:
    """Seconds a step of a loop that takes a batch and learns from it, after steps that are not counted."""
    for _ in range(warm_up):
        learn(next(batches))
    place.synchronise()
    began = time.perf_counter()
    for _ in range(steps):
        learn(next(batches))
    place.synchronise()
    return (time.perf_counter() - began) / steps


def warm_up(workers: int) -> int:
    """Steps until the first batch of the third wave: the loader holds two ahead, which took no time to wait for."""
    return 2 * workers + 1


def whole(steps: int, each: int) -> int:
    """The next multiple of `each`, which may be 0 for no matter."""
    return math.ceil(steps / max(1, each)) * max(1, each)


def fastest(run: Callable[[int, int], float], workers: Sequence[int], trials: int = 2) -> tuple[int, float]:
    """The number of worker processes with which a step takes least, and the seconds it took.

    `run` takes steps and workers. Its first call pays for all that is cold and is thrown away; then each number has so
    many trials, of two waves and at least four steps.
    """
    run(1, workers[0])
    times: dict[int, list[float]] = {number: [] for number in workers}
    for _ in range(trials):
        for number in times:
            times[number].append(run(max(4, 2 * number), number))
    best = min(times, key=lambda number: min(times[number]))
    return best, min(times[best])


class ByWorkers:
    """What contestants whose batches come from worker processes have in common; `run_with` is theirs."""

    workers: int
    took: float | None  # seconds a step, where they are known already
    note: str

    def run_with(self, steps: int, workers: int) -> float:
        raise NotImplementedError

    def choose_workers(self, possible: Sequence[int], trials: int) -> None:
        self.workers, self.took = fastest(self.run_with, possible, trials)
        self.note = f"num_workers={self.workers}"

    def turn(self, steps: int) -> int:
        return whole(steps, self.workers)

    def run(self, steps: int) -> float:
        return self.run_with(steps, self.workers)
