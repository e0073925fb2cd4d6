"""Objective of a sweep: the value of a metric for a job, whether smaller is better, whether any job measures it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.run_folder.summary import guessed_meaning
from ssl_runner.sweep.ledger import ENDED, numbers

COSTS = ("seconds", "peak_memory_mb")
SUMMARY = (*COSTS, "step", "samples_per_second")  # numbers at the top level of a summary.json
LOGGED = ("train", "regulariser", "optimizer", "speed")  # groups of metrics.jsonl that are no evaluator's


def is_better_smaller(metric: str) -> bool:
    """Of losses, errors and costs; of all else the largest is taken for the best. No run has told it yet."""
    return metric in COSTS or guessed_meaning(metric)["better"] == "smaller"


def value(summary: Mapping[str, Any], curve: Sequence[tuple[int, float]], metric: str) -> float | None:
    """A metric of a job that is completed or was stopped, None of another: it would be that of an unfinished encoder.

    A finite number of summary.json, or else the last one that was logged: of what a job was stopped at, or what is no
    evaluator's, the summary knows nothing.
    """
    if summary.get("status") not in ENDED:
        return None
    known = {**numbers(summary), **numbers(summary.get("final"))}
    if metric in known:
        return float(known[metric]) if math.isfinite(known[metric]) else None
    return curve[-1][1] if curve else None
