"""Export of a comparison: CSV with a row for each run, JSON with everything."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_runner.comparison.judge import Group
    from ssl_runner.comparison.record import Run
    from ssl_runner.comparison.statistics import Difference, Interval
    from ssl_runner.comparison.table import Comparison

FACTS = ("name", "status", "seed", "seconds", "samples_seen", "samples_per_second", "step", "steps")


def to_csv(comparison: Comparison) -> str:
    """Plain numbers, one row a run, completed or not: the settings that differ, by whole keys, and all metrics."""
    metrics = sorted({name for run in comparison.runs for name in run.metrics})
    settings = {id(run): each.settings for each in comparison.groups for run in each.runs}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *FACTS[1:], *comparison.keys, *metrics, "folder", "error"])
    for run in comparison.runs:
        own = settings.get(id(run), {**run.settings, **run.choices})
        chosen = [own.get(key, "") for key in comparison.keys]
        numbers = [run.metrics.get(name, "") for name in metrics]
        end = [str(run.folder), " ".join((run.error or "").split())]
        writer.writerow([*(getattr(run, fact) for fact in FACTS), *chosen, *numbers, *end])
    return out.getvalue()


def to_json(comparison: Comparison) -> str:
    content = {
        "metric": comparison.metric,
        "larger_is_better": comparison.larger,
        "unit": "share" if comparison.is_share(comparison.metric) else "number",
        "settings": comparison.keys,
        "common": comparison.common,
        "best_is_shown": comparison.best,
        "verdict": comparison.verdict,
        "warnings": comparison.warnings,
        "groups": [describe_group(each) for each in comparison.groups],
        "runs": [describe_run(run) for run in comparison.runs],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def describe_group(each: Group) -> dict[str, Any]:
    return {
        "settings": each.settings,
        "runs": [run.name for run in each.runs],
        "values": {str(seed): value for seed, value in each.values.items()},
        "n": len(each.values),
        **describe_interval(each.interval),
        "baseline": each.baseline,
        "test": describe_interval(each.test),
        "to_first": describe_difference(each.to_best),
        "shown_worse": each.worse,
        "shown_better_on_common_seeds": each.better,
        "pareto_front": each.front,
        **{fact: each.mean(fact) for fact in ("seconds", "samples_seen", "samples_per_second")},
        "steps": each.mean("step"),
    }


def describe_interval(shown: Interval | None) -> dict[str, Any]:
    return {"mean": shown.mean if shown else None, "half": finite(shown.half) if shown else None}


def describe_difference(shown: Difference | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    kind = "paired" if shown.paired else "Welch"
    return {"mean": -shown.mean, "half": finite(shown.half), "p": shown.p, "kind": kind, "n": shown.n}


def describe_run(run: Run) -> dict[str, Any]:
    mappings = {name: dict(getattr(run, name)) for name in ("choices", "settings", "metrics", "environment")}
    plain = {name: getattr(run, name) for name in (*FACTS, "error", "health")}
    return {**plain, "folder": str(run.folder), **mappings}


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
