"""Accuracy by the number of labels: the interval of a mean, a table and a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from ssl_runner.parts.atomic import replacing


class Score(NamedTuple):
    """What one method reached with one draw of labels; the fields are the columns of the table."""

    labels: str  # a class, as they were asked for: 5, or 0.01 for a share
    draw: int
    rows: int  # labelled rows in all
    method: str
    top1: float


def common(drawn: Int[Tensor, " c"], held: Int[Tensor, " c"]) -> float:
    """Share of its rows that a draw has in common with another, in (0, 1]: of `drawn` rows of each class `held`.

    A class weighs by the variance of its mean, 1 / drawn: one that is nearly used up counts beside large ones.
    """
    drawn, held = drawn[held > 0], held[held > 0]
    return float((1 / held).sum() / (1 / drawn).sum())


def half_width(values: Sequence[float], share: float, confidence: float = 0.95) -> float | None:
    """Half of the interval in which the mean over all labelled rows that might have been drawn lies, of one encoder.

    Student's t, with the variance of the mean as s^2 (1 / k + share / (1 - share)) for k values, where draws have
    `share` of their rows in common. If a value is, but for a constant, a mean over rows, then draws from one bank vary
    about that bank's own mean with 1 - share of their variance, and all of them move with the bank by the rest. That is
    the correction of Nadeau & Bengio, Inference for the generalization error, Machine Learning 52, 2003, for training
    sets that overlap. Where labels are a large share of the bank it is wide, as it must be: the draws then have next to
    nothing to say about other labels. What training adds by chance is not shared, which makes the interval too wide.

    share: in [0, 1). None where there is nothing to tell a width from: one value, or values that are all equal.
    """
    from scipy.stats import t

    if len(values) < 2 or (deviation := stdev(values)) == 0:
        return None
    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return quantile * deviation * math.sqrt(1 / len(values) + share / (1 - share))


def write_table(scores: Sequence[Score], path: Path) -> None:
    """As CSV, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Score._fields)
    writer.writerows(scores)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write_plot(scores: Sequence[Score], widths: Mapping[tuple[str, str], float], classes: int, path: Path) -> None:
    """A line a method: mean accuracy by labels a class, with a bar where there is a width. Safe in any thread.

    widths: half of an interval by number of labels and method.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    sizes = {score.labels: score.rows / classes for score in scores}
    for place, method in enumerate(dict.fromkeys(score.method for score in scores)):
        means = [100 * fmean(s.top1 for s in scores if (s.labels, s.method) == (labels, method)) for labels in sizes]
        bars = [100 * widths.get((labels, method), math.nan) for labels in sizes]
        dashed = "--" if method == "supervised" else "-"
        beside = [size * 1.04**place for size in sizes.values()]  # or the bars would hide each other
        axes.errorbar(beside, means, bars, label=method, linestyle=dashed, marker="o", capsize=3)
    axes.axhline(100 / classes, color="0.6", linewidth=1, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(list(sizes.values()), [f"{size:g}" for size in sizes.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labels a class", ylabel="accuracy, %", ylim=(0, 100))
    if widths:
        axes.set_title("bars: 95 % of the mean, over draws of labels from this bank; one encoder", fontsize=8)
    axes.grid(color="0.9")
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
