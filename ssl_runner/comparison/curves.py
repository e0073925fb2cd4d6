"""Learning curves of hundreds of runs, with as many points as one page can carry."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ssl_runner.run_folder.layout import METRICS
from ssl_runner.run_folder.metrics import read_rows

Curve = dict[float, tuple[float, float]]  # seconds and value by step
NUMBERS = 250_000  # of all curves together: about two megabytes
LEAST, MOST = 20, 240  # points of a curve


def downsample_curves(runs: Sequence[Mapping[str, Curve]]) -> dict[str, Any]:
    """Curves of all runs, of as many points as the page can carry; numbers logged together share their steps."""
    names = sorted({name for curves in runs for name, curve in curves.items() if len(curve) > 1})
    lengths = [len(curves[name]) for curves in runs for name in names if name in curves]
    points = MOST if sum(lengths) <= NUMBERS else max(LEAST, min(MOST, NUMBERS // len(lengths)))
    return {"curves": names, "tracks": [tracks(curves, names, points) for curves in runs]}


def read_curves(folder: Path) -> dict[str, Curve]:
    """The numbers of metrics.jsonl by name, those of the test split aside, in as many points as a page may show.

    One that was logged again at the same step counts as it was last, so that a run that had to go back is one curve.
    A file that cannot be read has none.
    """
    curves: dict[str, Curve] = defaultdict(dict)
    rows: list[dict[str, Any]] = []
    with suppress(OSError):
        rows = read_rows(folder / METRICS)
    for row in rows:
        for name in row.keys() - {"step", "epoch", "time"}:
            curves[name][row["step"]] = (float(row["time"]), row[name])
    for name, curve in curves.items():
        curves[name] = {step: point for step, point in sorted(curve.items()) if math.isfinite(point[1])}
    return {name: shorten(curve) for name, curve in curves.items() if curve and not name.startswith("test/")}


def shorten(curve: Curve) -> Curve:
    """Means of bins of a curve of more points than a page may show: those of hundreds of long runs fill a memory."""
    if len(curve) <= MOST:
        return curve
    seconds, values = zip(*curve.values(), strict=True)
    of_bins = [bin_means(each, MOST) for each in ([*curve], seconds, values)]
    return {step: (when, value) for step, when, value in zip(*of_bins, strict=True)}


def tracks(curves: Mapping[str, Curve], names: Sequence[str], points: int) -> list[dict[str, Any]]:
    """For each set of numbers that were logged at the same steps: steps, seconds, values by their place in `names`."""
    together: dict[tuple[tuple[float, float], ...], dict[int, list[float]]] = defaultdict(dict)
    for place, name in enumerate(names):
        if curve := curves.get(name):
            times = tuple((step, seconds) for step, (seconds, _) in curve.items())
            together[times][place] = downsample([value for _, value in curve.values()], points)
    pairs = [([downsample(each, points) for each in zip(*times, strict=True)], together[times]) for times in together]
    return [{"step": steps, "seconds": seconds, "values": values} for (steps, seconds), values in pairs]


def downsample(values: Sequence[float], points: int) -> list[float]:
    return [shorten_number(mean) for mean in bin_means(values, points)]


def bin_means(values: Sequence[float], points: int) -> list[float]:
    """Means of equal bins; the first and the last value stay as they are."""
    means = np.asarray(values, dtype=float)
    if points < len(means):
        starts = np.arange(points) * len(means) // points
        means = np.add.reduceat(means, starts) / np.diff(starts, append=len(means))
        means[0], means[-1] = values[0], values[-1]
    return list(means.tolist())


def shorten_number(value: float) -> float | int:
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short
