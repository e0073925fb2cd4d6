"""Confusion matrix as a picture: of each class's rows, the share that is predicted as each class."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ssl_runner.contract import Metric
from ssl_runner.run_folder.atomic import replacing

WRITTEN, NAMED = 12, 30  # most classes whose cells have numbers, and that are named; more are numbered
LONGEST = 18  # letters of a class's name


def write_confusion(accuracy: Metric, path: Path) -> None:
    """Writes the confusion matrix of an accuracy: classes from top to bottom, predicted classes from left to right."""
    rows = np.array(accuracy.confusion)  # (c, c)
    shares, classes = 100 * rows / rows.sum(1, keepdims=True).clip(1), len(rows)
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name in accuracy.classes]
    side = min(4 + 0.25 * classes, 11)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))  # a root, so that few are seen
    figure.colorbar(image, label="% of the rows of a class")
    axes.set(xlabel="predicted class", ylabel="class", title=f"{100 * accuracy.value:.1f} % of {rows.sum()} rows")
    if classes <= NAMED:
        axes.set_xticks(range(classes), names, rotation=90, parse_math=False)  # $ is a letter of a name
        axes.set_yticks(range(classes), names, parse_math=False)
    for (row, column), share in np.ndenumerate(shares if classes <= WRITTEN else shares[:0]):
        colour = "white" if share > 50 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font does not have is a box
        figure.savefig(file, format="png", dpi=120)
