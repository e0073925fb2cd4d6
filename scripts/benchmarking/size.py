"""Section `size`: seconds to the first step, steps a second and memory of the runner against the size of the data set.

The images (3,072 bytes each) are in memory as the data set left them; making them is not counted. A process a size.
"""

import time
from collections.abc import Callable
from typing import Any

from rich.table import Table

from benchmarking.place import resident_mb
from benchmarking.process import alone
from benchmarking.runner import Contestant
from benchmarking.settings import Settings
from benchmarking.work import pictures

BATCH, STEPS = 64, 30


def measure(settings: Settings, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    found = []
    for size in settings.sizes:
        tell(f"a data set of {size:,} images")
        found.append(alone(train, settings, size))
    return found


def train(settings: Settings, size: int) -> dict[str, Any]:
    """Called in a process of its own."""
    contestant = Contestant(settings.small(BATCH, 1_000))  # imports and warms up
    contestant.go_on(2)
    contestant.close()
    began = time.perf_counter()
    pictures(size)
    making = time.perf_counter() - began
    before = resident_mb()
    began = time.perf_counter()
    contestant = Contestant(settings.small(BATCH, size))
    times = contestant.go_on(STEPS)
    held = resident_mb() - before
    contestant.close()
    return {
        "rows": size,
        "data_mb": size * 3072 / 2**20,
        "seconds_to_first_step": max(0.0, times[1] - began - making),
        "steps_per_second": (STEPS - 5) / (times[-1] - times[5]),
        "held_mb": held,
    }


def tables(found: list[dict[str, Any]]) -> list[Table]:
    table = Table(
        "rows", "data, MB", "to first step, s", "steps/s", "held, MB", box=None, title="by size of the data set"
    )
    for row in found:
        numbers = (row["data_mb"], row["seconds_to_first_step"], row["steps_per_second"], row["held_mb"])
        table.add_row(f"{row['rows']:,}", *(f"{n:,.{d}f}" for n, d in zip(numbers, (0, 2, 1, 0), strict=True)))
    return [table]
