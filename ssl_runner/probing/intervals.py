"""Confidence intervals of a mean over draws of labels that share rows."""

import math
from collections.abc import Sequence
from statistics import stdev

from jaxtyping import Int
from torch import Tensor


def overlap(drawn: Int[Tensor, " c"], held: Int[Tensor, " c"]) -> float:
    """Share of rows that two draws have in common, in (0, 1]: `drawn` rows of each class, of those `held`.

    A class weighs by the variance of its mean, 1 / drawn: one that is nearly used up counts beside large ones.
    """
    drawn, held = drawn[held > 0], held[held > 0]
    return float((1 / held).sum() / (1 / drawn).sum())


def half_width(values: Sequence[float], overlap: float, confidence: float = 0.95) -> float | None:
    """Half-width of the confidence interval of one encoder's mean over all labelled rows that might have been drawn.

    Student's t, with the variance of the mean as s^2 (1 / k + overlap / (1 - overlap)) for k values, if draws have a
    share `overlap`, in [0, 1), of their rows in common. If a value is, but for a constant, a mean over rows, then draws
    from one bank vary about that bank's own mean with 1 - overlap of their variance, and all of them move with the bank
    by the rest. That is the correction of Nadeau & Bengio, Inference for the generalization error, Machine Learning 52,
    2003, for training sets that overlap. If labels are a large share of the bank it is wide, as it must be: the draws
    have next to nothing to say about other labels. Chance in training is not shared, which makes the interval too wide.
    None if there is one value, or if all are equal: nothing tells a width.
    """
    from scipy.stats import t

    if len(values) < 2 or (deviation := stdev(values)) == 0:
        return None
    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return quantile * deviation * math.sqrt(1 / len(values) + overlap / (1 - overlap))
