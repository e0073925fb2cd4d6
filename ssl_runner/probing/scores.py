"""Scores of predictions: top-k accuracy, R squared, mean average precision."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ssl_runner.contract import Metric


def top_accuracies(guesses: Int[Tensor, "q r"], truth: Int[Tensor, " q"], classes: int) -> dict[str, float]:
    """`top1`, and `top5` if there are more than five classes, in [0, 1]; a guess of -1 is none."""
    hits = guesses == truth.to(guesses.device)[:, None]  # (q, r)
    first = {"top1": float(hits[:, 0].sum()) / len(truth)}
    return first | ({"top5": float(hits[:, :5].sum()) / len(truth)} if classes > 5 else {})


def as_shares(values: Mapping[str, float]) -> dict[str, Metric]:
    """Accuracies and the like as metrics: shares in [0, 1], the larger the better."""
    return {name: Metric(value) for name, value in values.items()}


def r_squared(predicted: Float[Tensor, "q c"], truth: Float[Tensor, "q c"]) -> float:
    """Share of the variance of all components that is predicted, at most 1; NaN if the truth does not vary."""
    total = (truth - truth.mean(0)).square().sum()
    return 1 - float((predicted - truth).square().sum() / total) if total > 0 else math.nan


def average_precision(scores: Float[Tensor, " q"], truth: Bool[Tensor, " q"]) -> float:
    """Precision at each threshold, weighted by the recall that it adds, in [0, 1]; NaN if no row is positive.

    Rows with equal scores are above a threshold together.
    """
    order = scores.argsort(descending=True)
    scores, truth = scores[order], truth[order].double()
    positives = truth.cumsum(0)  # (q,)
    last = torch.cat([scores[1:] != scores[:-1], scores.new_ones(1, dtype=torch.bool)])  # of rows with equal scores
    found = positives[last]
    precision = found / (last.nonzero().flatten() + 1)
    return float((precision * found.diff(prepend=found.new_zeros(1))).sum() / positives[-1])


def mean_average_precision(scores: Float[Tensor, "q k"], truth: Bool[Tensor, "q k"]) -> float:
    """Average precision of each label that some row has, averaged over labels; NaN if there is none."""
    values = [average_precision(*each) for each in zip(scores.T, truth.to(scores.device).T, strict=True)]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def score_predictions(predicted: Float[Tensor, "q c"], truth: Shaped[Tensor, "q c"]) -> dict[str, Metric]:
    """`map` of scores of several labels, `r2` of predicted numbers. Raises ValueError if the truth does not vary."""
    if truth.dtype == torch.bool:
        name, value = "map", mean_average_precision(predicted, truth)
    else:
        name, value = "r2", r_squared(predicted.cpu().double(), truth.cpu().double())
    if math.isnan(value):
        raise ValueError("the target does not vary among the rows of the query; give more rows or another target")
    return {name: Metric(value, "larger", "share" if name == "map" else "number")}
