"""What a sweep's metric is of a job: its value, whether it is better when smaller, and whether it is there at all."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_runner.comparison.metric import larger_is_better
from ssl_runner.errors import nearest
from ssl_runner.run.job import Job

COSTS = ("seconds", "peak_memory_mb")
SUMMARY = (*COSTS, "step", "images_per_second")  # numbers at the top level of a summary.json
LOGGED = ("train", "regulariser", "optimizer", "speed")  # groups of metrics.jsonl that are no evaluator's


def is_better_smaller(metric: str) -> bool:
    """Of losses, errors and costs; of all else the largest is taken for the best."""
    return metric in COSTS or larger_is_better(metric) is False


def value(summary: Mapping[str, Any], curve: Sequence[tuple[int, float]], metric: str) -> float | None:
    """A metric of a job that is completed or was stopped, None of another: it would be that of an unfinished encoder.

    A finite number of summary.json by its name, in `final`, in `test`, or at the top level; or else the last that was
    logged: of what a job was stopped at, or what is no evaluator's, `final` knows nothing.
    """
    if summary.get("status") not in ("completed", "stopped"):
        return None
    for place in (summary.get("final"), summary.get("test"), summary):
        found = place.get(metric) if isinstance(place, Mapping) else None
        if isinstance(found, int | float) and not isinstance(found, bool):
            return float(found) if math.isfinite(found) else None
    return curve[-1][1] if curve else None


def mistaken(metric: str, jobs: Sequence[Job], halving: bool) -> list[str]:
    """What is wrong with a metric that decides what is run, said before anything is."""
    headlines = {name: getattr(node.target, "headline", "") for job in jobs for name, node in job.evaluator.items()}
    possible = [f"{name}/{headline}" for name, headline in headlines.items()]
    group, slash, _ = metric.partition("/")
    if halving and (group == "test" or not slash):
        return [
            f"sweep.metric: given {metric}, which has no curve for sweep.halving: it is measured at the end of a run"
        ]
    if group in (*headlines, *LOGGED, "test") if slash else metric in SUMMARY:
        return []
    others = [*SUMMARY, "train/loss"]
    guess = nearest(metric, [*possible, *others])
    measured = f"possible are {', '.join([*possible, *others])}{guess}"
    return [f"sweep.metric: given {metric}, which no job measures; {measured}, or type evaluator=[...]"]
