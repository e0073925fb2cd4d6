"""Objective of a sweep: the value of a metric for a job, and whether the smaller is the better."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.sweep.ledger import ENDED, numbers

SMALLER = re.compile(r"(^|[/_])(loss|error|leaked_share|seconds|peak_memory_mb)$")
SUMMARY = ("seconds", "peak_memory_mb", "step", "samples_per_second")  # numbers at the top level of a summary.json
LOGGED = ("train", "regulariser", "optimizer", "speed")  # groups of metrics.jsonl that are no evaluator's


def is_better_smaller(metric: str) -> bool:
    """Of losses, errors and costs; of all else the largest is taken for the best."""
    return SMALLER.search(metric) is not None


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
