"""How everybody's steps are timed."""

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


def fastest(run: Callable[[int, int], float], workers: Sequence[int]) -> int:
    """The number of worker processes with which three steps take the least; `run` takes steps and workers."""
    return min(workers, key=lambda number: run(3, number))
