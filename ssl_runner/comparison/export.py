"""A comparison for other programs: CSV with a row for each run, JSON with everything."""

import csv
import io
import json
import math
from typing import Any

from ssl_runner.comparison.judge import Group
from ssl_runner.comparison.record import Run
from ssl_runner.comparison.statistics import Difference, Interval
from ssl_runner.comparison.table import Comparison


def to_csv(made: Comparison) -> str:
    """Plain numbers, one row a run, completed or not: the settings that differ, by whole keys, and all metrics."""
    metrics = sorted({name for run in made.runs for name in run.metrics})
    settings = {id(run): each.settings for each in made.groups for run in each.runs}
    facts = ["run", "status", "seed", "seconds", "images_seen", "images_per_second", "step", "steps"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*facts, *made.keys, *metrics, "folder", "error"])
    for run in made.runs:
        has = settings.get(id(run), {**run.settings, **run.choices})
        numbers = [getattr(run, "name" if fact == "run" else fact) for fact in facts]
        rest = [str(run.folder), " ".join((run.error or "").split())]
        writer.writerow(
            [*numbers, *(has.get(k, "") for k in made.keys), *(run.metrics.get(m, "") for m in metrics), *rest]
        )
    return out.getvalue()


def to_json(made: Comparison) -> str:
    content = {
        "metric": made.metric,
        "larger_is_better": made.larger,
        "settings": made.keys,
        "common": made.common,
        "best_is_shown": made.best,
        "verdict": made.verdict,
        "warnings": made.warnings,
        "groups": [of_group(each) for each in made.groups],
        "runs": [of_run(run) for run in made.runs],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def of_group(each: Group) -> dict[str, Any]:
    return {
        "settings": each.settings,
        "runs": [run.name for run in each.runs],
        "values": {str(seed): value for seed, value in each.values.items()},
        "n": len(each.values),
        **of_interval(each.interval),
        "baseline": each.baseline,
        "test": of_interval(each.test),
        "to_first": of_difference(each.to_best),
        "shown_worse": each.worse,
        "shown_better_on_common_seeds": each.better,
        "pareto_front": each.front,
        "seconds": each.seconds,
        "images_seen": each.images_seen,
        "images_per_second": each.images_per_second,
        "steps": each.steps,
    }


def of_interval(shown: Interval | None) -> dict[str, Any]:
    return {"mean": shown.mean if shown else None, "half": finite(shown.half) if shown else None}


def of_difference(shown: Difference | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    kind = "paired" if shown.paired else "Welch"
    return {"mean": -shown.mean, "half": finite(shown.half), "p": shown.p, "kind": kind, "n": shown.n}


def of_run(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "status": run.status,
        "error": run.error,
        "health": run.health,
        "seed": run.seed,
        "step": run.step,
        "steps": run.steps,
        "seconds": run.seconds,
        "images_seen": run.images_seen,
        "images_per_second": run.images_per_second,
        "choices": dict(run.choices),
        "settings": dict(run.settings),
        "metrics": dict(run.metrics),
        "environment": dict(run.environment),
    }


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
