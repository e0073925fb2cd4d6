"""Objective of a sweep: the value of a metric for a job, whether smaller is better, whether any job measures it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.comparison.metric import larger_is_better
from ssl_runner.sweep.ledger import ENDED, numbers

COSTS = ("seconds", "peak_memory_mb")
SUMMARY = (*COSTS, "step", "images_per_second")  # numbers at the top level of a summary.json
LONG = ("few_label",)  # evaluators of the time of the older names that have a _ in theirs
LOGGED = ("train", "regulariser", "optimizer", "speed")  # groups of metrics.jsonl that are no evaluator's


def current_name(metric: str) -> str:
    """`test/knn/top1` for `test/knn_top1`, as a number on test was called before; any other name as it is."""
    stage, _, name = metric.partition("/")
    if stage != "test" or "/" in name or "_" not in name:
        return metric
    evaluator = next((each for each in LONG if name.startswith(f"{each}_")), name.partition("_")[0])
    return f"test/{evaluator}/{name[len(evaluator) + 1 :]}"


def is_better_smaller(metric: str) -> bool:
    """Of losses, errors and costs; of all else the largest is taken for the best."""
    return metric in COSTS or larger_is_better(metric) is False


def value(summary: Mapping[str, Any], curve: Sequence[tuple[int, float]], metric: str) -> float | None:
    """A metric of a job that is completed or was stopped, None of another: it would be that of an unfinished encoder.

    A finite number of summary.json, or else the last one that was logged: of what a job was stopped at, or what is no
    evaluator's, the summary knows nothing.
    """
    if summary.get("status") not in ENDED:
        return None
    test = {current_name(f"test/{name}"): each for name, each in numbers(summary.get("test")).items()}
    known = {**numbers(summary), **test, **numbers(summary.get("final"))}
    if metric in known:
        return float(known[metric]) if math.isfinite(known[metric]) else None
    return curve[-1][1] if curve else None
