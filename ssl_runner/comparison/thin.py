"""Curves of hundreds of runs, with as many points as one page can carry."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssl_runner.comparison.record import Run
from ssl_runner.run_folder.layout import METRICS

ASIDE = ("step", "epoch", "time")  # of a row: when its numbers were logged
NUMBERS = 250_000  # of all curves together: about two megabytes
LEAST, MOST = 20, 240  # points of a curve


def drawn(runs: Sequence[Run]) -> dict[str, Any]:
    """Curves of all runs, of as many points as the page can carry; numbers logged together share their steps."""
    read = [curves(run) for run in runs]
    lengths: Counter[str] = Counter()
    for rows in read:
        for name, n in Counter(name for row in rows for name in numbers(row)).items():
            lengths[name] = max(lengths[name], n)
    names = sorted(name for name, n in lengths.items() if n > 1)
    total = sum(name in row for rows in read for row in rows for name in names)
    several = sum(1 for rows in read for name in names if any(name in row for row in rows))
    points = MOST if total <= NUMBERS else max(LEAST, min(MOST, NUMBERS // max(1, several)))
    return {"curves": names, "tracks": [tracks(rows, names, points) for rows in read]}


def curves(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl by their steps, without those that are torn.

    A number that was logged again at the same step counts as it was last, so that a run that had to go back is one
    curve. What is measured at a step stands in another row than what the training logs there.
    """
    rows = []
    with contextlib.suppress(OSError), (run.folder / METRICS).open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    rows.append(row)
    last = {(row["step"], name): place for place, row in enumerate(rows) for name in row}
    kept = [
        {name: value for name, value in row.items() if name in ASIDE or last[row["step"], name] == place}
        for place, row in enumerate(rows)
    ]
    return sorted((row for row in kept if row.keys() - {*ASIDE}), key=lambda row: row["step"])


def numbers(row: dict[str, Any]) -> list[str]:
    return [
        name
        for name, value in row.items()
        if name not in ASIDE
        and not name.startswith("test/")
        and isinstance(value, (int, float))
        and math.isfinite(value)
    ]


def tracks(rows: Sequence[dict[str, Any]], names: Sequence[str], points: int) -> list[dict[str, Any]]:
    """For each set of numbers that were logged in the same rows: steps, seconds, and the numbers by their place."""
    logged: dict[str, list[int]] = {name: [] for name in names}
    for place, row in enumerate(rows):
        for name in numbers(row):
            if name in logged:
                logged[name].append(place)
    together: dict[tuple[int, ...], list[int]] = {}
    for number, name in enumerate(names):
        if logged[name]:
            together.setdefault(tuple(logged[name]), []).append(number)
    found = []
    for places, members in together.items():
        bins = np.array_split(np.arange(len(places)), min(points, len(places)))

        def thinned(values: Sequence[float], bins: list[np.ndarray] = bins) -> list[float]:
            """Means of bins; the ends, where a curve begins and what it came to, stay as they are."""
            x = np.asarray(values, dtype=float)
            means = [rounded(float(x[each].mean())) for each in bins]
            return [rounded(float(x[0])), *means[1:-1], rounded(float(x[-1]))] if len(means) > 1 else means

        seconds = [float(rows[place].get("time") or 0.0) for place in places]
        track: dict[str, Any] = {
            "step": thinned([rows[place]["step"] for place in places]),
            "seconds": thinned(seconds),
        }
        track["values"] = {number: thinned([rows[place][names[number]] for place in places]) for number in members}
        found.append(track)
    return found


def rounded(value: float) -> float | int:
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short
