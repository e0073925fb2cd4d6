"""Spearman's rank correlation.

Spearman, The proof and measurement of association between two things, American Journal of Psychology 15, 1904.
"""

import math

from jaxtyping import Float
from torch import Tensor


def spearman(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    """The correlation of ranks, equal values sharing the mean of theirs, in [-1, 1]; 0 if one does not vary."""
    from scipy.stats import rankdata

    first, second = (rankdata(each.double().numpy()) for each in (x, y))
    first, second = first - first.mean(), second - second.mean()
    scale = math.sqrt((first @ first) * (second @ second))
    return float(first @ second) / scale if scale else 0.0
