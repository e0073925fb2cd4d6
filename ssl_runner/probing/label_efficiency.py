"""Label efficiency: draws of labelled rows, confidence intervals of a mean over draws, plot of accuracy by labels."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from ssl_runner.run_folder.atomic import replacing


def rank_within_class(y: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
    """Random rank of each row among those of its class, from 0; `rng` is on the CPU.

    `rank_within_class(y, rng) < 5` are five rows of each class, and all of a class that has fewer.
    """
    order = torch.randperm(len(y), generator=rng)
    order = order[y.cpu()[order].argsort(stable=True)]  # by class, at random within it
    counts = y.cpu().bincount()
    first = counts.cumsum(0) - counts
    ranks = torch.empty(len(y), dtype=torch.int64)
    ranks[order] = torch.arange(len(y)) - first.repeat_interleave(counts)
    return ranks


def stratified_sample(y: Int[Tensor, " n"], count: int, rng: torch.Generator) -> Int[Tensor, " m"]:
    """Sorted rows, `count` of them or all if there are fewer, each class by its share in `y`."""
    before = (rank_within_class(y, rng) + 0.5) / y.cpu().bincount()[y.cpu()]  # share of its class before a row
    return before.argsort(stable=True)[:count].sort().values


def overlap(drawn: Int[Tensor, " c"], held: Int[Tensor, " c"]) -> float:
    """Share of rows that two draws have in common, in (0, 1]: `drawn` rows of each class, of those `held`.

    A class weighs by the variance of its mean, 1 / drawn: one that is nearly used up counts beside large ones.
    """
    drawn, held = drawn[held > 0], held[held > 0]
    return float((1 / held).sum() / (1 / drawn).sum())


def half_width(values: Sequence[float], overlap: float) -> float | None:
    """Half-width of the 95 % interval of one encoder's mean over all labelled rows that might have been drawn.

    Student's t, with the variance of the mean as s^2 (1 / k + overlap / (1 - overlap)) for k values, if draws have a
    share `overlap`, in [0, 1), of their rows in common: the correction of Nadeau & Bengio, Inference for the
    generalization error, Machine Learning 52, 2003. If a value is a mean over rows, draws from one bank vary about its
    own mean with 1 - overlap of their variance, and move with the bank by the rest. If labels are a large share of the
    bank it is wide: the draws have next to nothing to say about other labels. Chance in training is not shared, which
    makes it too wide. None if there is one value, or if all are equal.
    """
    from scipy.stats import t

    if len(values) < 2 or (deviation := stdev(values)) == 0:
        return None
    return float(t.ppf(0.975, len(values) - 1)) * deviation * math.sqrt(1 / len(values) + overlap / (1 - overlap))


def write_plot(curves: Mapping[str, Float[np.ndarray, "s 3"]], chance: float, path: Path) -> None:
    """A line a method: mean accuracy by labels a class, with error bars. Safe in any thread.

    curves: labels a class, mean accuracy and half-width of its interval (NaN: no bar), by method. chance: a guess's.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, (method, curve) in enumerate(curves.items()):
        sizes, means, widths = curve.T
        beside, line = sizes * 1.04**number, "o--" if method == "supervised" else "o-"  # or bars would hide each other
        axes.errorbar(beside, 100 * means, 100 * widths, fmt=line, label=method, capsize=3)
    axes.axhline(100 * chance, color="0.6", linewidth=1, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labels a class", ylabel="accuracy, %", ylim=(0, 100))
    if any(np.isfinite(curve).all(1).any() for curve in curves.values()):
        axes.set_title("bars: 95 % of the mean, over draws of labels from this bank; one encoder", fontsize=8)
    axes.grid(color="0.9")
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
