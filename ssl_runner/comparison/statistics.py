"""Confidence intervals of means and differences over seeds, and when a group may be called the best."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MOST_SEEDS = 50  # no advice beyond


class Interval(NamedTuple):
    """A 95 % t interval: mean ± half, infinite for a single value."""

    mean: float
    half: float


class Difference(NamedTuple):
    """Best group minus another: mean ± half at 95 %, by pairs of equal seeds or by Welch's approximation.

    `p` is two-sided. A difference without any spread has no interval (half is infinite and p is 1): a few seeds that
    agree to the last digit, as on a small validation split, do not show that all would.
    """

    mean: float
    half: float
    paired: bool
    n: int  # pairs, or the smaller group
    freedom: float
    p: float

    def toward(self, larger: bool) -> float:
        """How far it speaks for the first of the two; against it if negative."""
        return self.mean if larger else -self.mean


def quantile(freedom: float) -> float:
    """Two-sided 95 % quantile of Student's t."""
    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def interval(values: Sequence[float]) -> Interval:
    n, mean = len(values), float(np.mean(values))
    half = quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Interval(mean, half)


def difference(best: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """The difference of two groups whose values are given by seed.

    Paired over the seeds that both have, if these are at least two and at least half of the smaller group's: the rule
    looks at seeds and not at values, so it does not choose the answer. Welch otherwise.
    """
    common = sorted(best.keys() & other.keys())
    n = min(len(best), len(other))
    paired = len(common) >= 2 and 2 * len(common) >= n
    error, freedom = 0.0, 1.0
    if paired:
        d, n = np.array([best[seed] - other[seed] for seed in common]), len(common)
        mean, error, freedom = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(n), n - 1.0
    else:
        a, b = np.array([*best.values()]), np.array([*other.values()])
        mean = float(a.mean() - b.mean())
        u, v = (float(x.var(ddof=1)) / len(x) if n > 1 else 0.0 for x in (a, b))
        if u + v > 0:
            error, freedom = math.sqrt(u + v), (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    if error <= 1e-12 * max(1.0, abs(mean)):  # no spread but that of rounding
        return Difference(mean, math.inf, paired, n, freedom, 1.0)
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(mean, quantile(freedom) * error, paired, n, freedom, p)


def judge(differences: Sequence[Difference], larger: bool) -> tuple[bool, list[bool], list[bool]]:
    """Whether the first group, which has the best mean, may be marked as the best; which others are shown to be worse
    than the best; and which are shown to be better than the first, against the order of the means.

    The first is marked if the 95 % interval of its difference to each of the others lies on its side of zero. That all
    do at once takes no correction (an intersection-union test: Berger, Technometrics 24:295, 1982). If it is not
    marked, another is called worse only if p < 5 % / number of others: what is claimed of several groups then holds for
    all of them with 95 %, although the best was chosen by looking (Bonferroni in place of Dunnett's quantile in
    multiple comparisons with the best: Hsu, Annals of Statistics 12:1136, 1984). Paired differences can point to the
    other group if seeds are not the same: means are then over more of them than differences.
    """
    toward, half, p = np.array([(each.toward(larger), each.half, each.p) for each in differences]).T
    best, clear = bool((toward > half).all()), p < (1 - LEVEL) / len(differences)
    return best, (best | (clear & (toward > 0))).tolist(), (clear & (toward < 0)).tolist()


def seeds_needed(shown: Difference, larger: bool) -> int | None:
    """How many seeds would show the first to be better, if mean and spread stayed as they are.

    None beyond MOST_SEEDS, and if the mean speaks against it.
    """
    toward = shown.toward(larger)
    if not math.isfinite(shown.half) or toward <= 0:
        return None
    spread = shown.half / quantile(shown.freedom) * math.sqrt(shown.n)
    freedom = {n: n - 1 if shown.paired else 2 * (n - 1) for n in range(shown.n + 1, MOST_SEEDS + 1)}
    return next((n for n in freedom if quantile(freedom[n]) * spread / math.sqrt(n) < toward), None)
