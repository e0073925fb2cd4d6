"""Confidence intervals of a mean over draws of labels that share rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from jaxtyping import Int
from torch import Tensor


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
