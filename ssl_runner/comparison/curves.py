"""Learning curves of hundreds of runs, with as many points as one page can carry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_runner.run_folder.layout import METRICS
from ssl_runner.run_folder.metrics import read_rows

if TYPE_CHECKING:
    from ssl_runner.comparison.record import Run

WHEN = ("step", "epoch", "time")  # of a row: when its numbers were logged
NUMBERS = 250_000  # of all curves together: about two megabytes
LEAST, MOST = 20, 240  # points of a curve


def downsample_curves(runs: Sequence[Run]) -> dict[str, Any]:
    """Curves of all runs, of as many points as the page can carry; numbers logged together share their steps."""
    rows = [read_curves(run) for run in runs]
    lengths: Counter[str] = Counter()
    for of_run in rows:
        for name, n in Counter(name for row in of_run for name in curve_names(row)).items():
            lengths[name] = max(lengths[name], n)
    names = sorted(name for name, n in lengths.items() if n > 1)
    total = sum(name in row for of_run in rows for row in of_run for name in names)
    several = sum(1 for of_run in rows for name in names if any(name in row for row in of_run))
    points = MOST if total <= NUMBERS else max(LEAST, min(MOST, NUMBERS // max(1, several)))
    return {"curves": names, "tracks": [tracks(of_run, names, points) for of_run in rows]}


def read_curves(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl by their steps.

    A number that was logged again at the same step counts as it was last, so that a run that had to go back is one
    curve. Numbers of evaluators are in other rows than those of training at the same step.
    """
    rows = read_rows(run.folder / METRICS)
    last = {(row["step"], name): place for place, row in enumerate(rows) for name in row}
    kept = [
        {name: value for name, value in row.items() if name in WHEN or last[row["step"], name] == place}
        for place, row in enumerate(rows)
    ]
    return sorted((row for row in kept if row.keys() - {*WHEN}), key=lambda row: row["step"])


def curve_names(row: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in row.items()
        if name not in WHEN and not name.startswith("test/") and math.isfinite(value)
    ]


def tracks(rows: Sequence[Mapping[str, Any]], names: Sequence[str], points: int) -> list[dict[str, Any]]:
    """For each set of numbers that were logged in the same rows: steps, seconds, and the numbers by their place."""
    logged: dict[str, list[int]] = {name: [] for name in names}
    for place, row in enumerate(rows):
        for name in curve_names(row):
            if name in logged:
                logged[name].append(place)
    together: dict[tuple[int, ...], list[int]] = {}
    for number, name in enumerate(names):
        if logged[name]:
            together.setdefault(tuple(logged[name]), []).append(number)
    return [
        {
            "step": downsample([rows[place]["step"] for place in places], points),
            "seconds": downsample([float(rows[place]["time"]) for place in places], points),
            "values": {n: downsample([rows[place][names[n]] for place in places], points) for n in members},
        }
        for places, members in together.items()
    ]


def downsample(values: Sequence[float], points: int) -> list[float]:
    """Means of equal bins; the first and the last value stay as they are."""
    x = np.asarray(values, dtype=float)
    means = [shorten_number(float(part.mean())) for part in np.array_split(x, min(points, len(x)))]
    return [shorten_number(float(x[0])), *means[1:-1], shorten_number(float(x[-1]))] if len(means) > 1 else means


def shorten_number(value: float) -> float | int:
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short
