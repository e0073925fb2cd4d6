"""Label efficiency: table and plot of accuracy by the number of labels."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ssl_runner.run_folder.atomic import replacing


class Score(NamedTuple):
    """Accuracy of one method with one draw of labels; the fields are the columns of the table."""

    labels: str  # a class, as they were asked for: 5, or 0.01 for a share of each class
    draw: int
    rows: int  # labelled rows in all
    method: str
    top1: float


def write_table(scores: Sequence[Score], path: Path) -> None:
    """As CSV, a row each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Score._fields)
    writer.writerows(scores)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write_plot(scores: Sequence[Score], widths: Mapping[tuple[str, str], float], classes: int, path: Path) -> None:
    """A line a method: mean accuracy by labels a class, with error bars. Safe in any thread.

    widths: half-widths of intervals by number of labels and method; a missing one has no bar.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    sizes = {score.labels: score.rows / classes for score in scores}
    for number, method in enumerate(dict.fromkeys(score.method for score in scores)):
        means = [100 * fmean(s.top1 for s in scores if (s.labels, s.method) == (labels, method)) for labels in sizes]
        bars = [100 * widths.get((labels, method), math.nan) for labels in sizes]
        dashed = "--" if method == "supervised" else "-"
        beside = [size * 1.04**number for size in sizes.values()]  # or the bars would hide each other
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
