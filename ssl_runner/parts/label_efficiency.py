"""Accuracy by the number of labels: the interval of a mean, a table and a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ssl_runner.parts.atomic import replacing


class Score(NamedTuple):
    """What one method reached with one draw of labels; the fields are the columns of the table."""

    labels: str  # a class, as they were asked for: 5, or 0.01 for a share
    draw: int
    rows: int  # labelled rows in all
    method: str
    top1: float


def half_width(values: Sequence[float], confidence: float = 0.95) -> float:
    """Half of the interval in which the mean of normally distributed values lies: Student's t, two values or more."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def write_table(scores: Sequence[Score], path: Path) -> None:
    """As CSV, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Score._fields)
    writer.writerows(scores)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write_plot(scores: Sequence[Score], classes: int, path: Path) -> None:
    """A line a method: mean accuracy and its 95 % interval over draws, by labels a class. Safe in any thread."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    sizes = {score.labels: score.rows / classes for score in scores}
    for place, method in enumerate(dict.fromkeys(score.method for score in scores)):
        drawn = [[s.top1 for s in scores if (s.labels, s.method) == (labels, method)] for labels in sizes]
        widths = [100 * half_width(values) if len(values) > 1 else 0.0 for values in drawn]
        means = [100 * fmean(values) for values in drawn]
        dashed = "--" if method == "supervised" else "-"
        beside = [size * 1.04**place for size in sizes.values()]  # or the bars would hide each other
        axes.errorbar(beside, means, widths, label=method, linestyle=dashed, marker="o", capsize=3)
    axes.axhline(100 / classes, color="0.6", linewidth=1, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(list(sizes.values()), [f"{size:g}" for size in sizes.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labels a class", ylabel="accuracy, %", ylim=(0, 100))
    axes.grid(color="0.9")
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
