"""Section `memory`: what the runner holds after 200 and up to 500 steps, its peak, and the share of the time in which
it waits for data. convnet_small, SimCLR, batches of 64, in a process of its own.

The first 200 steps are left out of the growth: in them the allocator, which keeps what is freed, comes to hold one of
every size that a step and a log ask for. A tensor that leaked at each step would show in the next 300 as well.
"""

import itertools
from collections.abc import Callable
from typing import Any

from rich.table import Table

from benchmarking.place import resident_mb
from benchmarking.process import alone
from benchmarking.runner import Contestant
from benchmarking.settings import Settings
from ssl_runner.run_folder.metrics import read_rows

BATCH = 64


def measure(settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    tell("memory of the runner over its steps")
    return alone(hold, settings)


def hold(settings: Settings) -> dict[str, Any]:
    """Called in a process of its own."""
    contestant = Contestant(settings.small(min(BATCH, settings.rows)))
    held = []
    for before, mark in itertools.pairwise((0, *settings.marks)):
        contestant.go_on(mark - before)
        held.append(resident_mb())
    waits = [row["speed/data_wait"] for row in read_rows(contestant.trainer.folder / "metrics.jsonl")]
    peak = contestant.trainer.learner.device.peak_memory_mb()
    contestant.close()
    return {
        "steps": list(settings.marks),
        "resident_mb": held,
        "growth": held[-1] / held[0],
        "peak_mb": peak,
        "data_wait_share": sum(waits) / len(waits) if waits else 0.0,
    }


def tables(found: dict[str, Any]) -> list[Table]:
    table = Table("memory of the runner", "", box=None)
    for steps, held in zip(found["steps"], found["resident_mb"], strict=True):
        table.add_row(f"held after {steps} steps", f"{held:,.0f} MB")
    table.add_row("the last to the first", f"{found['growth']:.3f}")
    table.add_row("peak", f"{found['peak_mb']:,.0f} MB")
    table.add_row("waiting for data", f"{found['data_wait_share']:.2%} of the time")
    return [table]
