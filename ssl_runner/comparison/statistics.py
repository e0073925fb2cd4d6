"""Intervals of means and of differences over seeds, and when a group may be called the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MOST_SEEDS = 50  # no advice beyond


@dataclass(frozen=True)
class Interval:
    """A 95 % t interval: mean ± half, infinite where one value has no spread to judge by."""

    mean: float
    half: float
    n: int


@dataclass(frozen=True)
class Difference:
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

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half


def quantile(freedom: float, level: float = LEVEL) -> float:
    """Student's t that a share `level` of the distribution lies within, on both sides of zero."""
    return float(stdtrit(freedom, 0.5 + level / 2))


def interval(values: Sequence[float]) -> Interval:
    n, x = len(values), np.asarray(values, dtype=float)
    if n < 2:
        return Interval(float(x.mean()), math.inf, n)
    return Interval(float(x.mean()), quantile(n - 1) * float(x.std(ddof=1)) / math.sqrt(n), n)


def difference(best: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """The difference of two groups whose values are given by seed.

    Paired over the seeds that both have, where these are at least two and at least half of the smaller group's: the
    rule looks at seeds and not at values, so it does not choose the answer. Welch otherwise.
    """
    common = sorted(best.keys() & other.keys())
    if len(common) >= 2 and 2 * len(common) >= min(len(best), len(other)):
        d = np.array([best[seed] - other[seed] for seed in common])
        error, freedom = float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1.0
        return judged(float(d.mean()), error, freedom, True, len(d))
    a, b = np.array([*best.values()]), np.array([*other.values()])
    mean, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return judged(mean, 0.0, 1.0, False, n)
    u, v = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1)) if u + v > 0 else 1.0
    return judged(mean, math.sqrt(u + v), freedom, False, n)


def judged(mean: float, error: float, freedom: float, paired: bool, n: int) -> Difference:
    if error <= 1e-12 * max(1.0, abs(mean)):  # no spread but that of rounding
        return Difference(mean, math.inf, paired, n, freedom, 1.0)
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(mean, quantile(freedom) * error, paired, n, freedom, p)


def standing(differences: Sequence[Difference]) -> tuple[bool, list[bool]]:
    """Whether the best may be marked, and which of the others are shown not to be the best.

    The best is marked where the 95 % interval of its difference to each of the others excludes zero. To say
    that of all at once takes no correction (an intersection-union test: Berger, Technometrics 24:295, 1982). Where it
    is not marked, another is called worse only if p < 5 % / number of others: what is then claimed of several groups
    holds for all of them with 95 %, although the best was chosen by looking (Bonferroni in place of Dunnett's quantile
    in multiple comparisons with the best: Hsu, Annals of Statistics 12:1136, 1984).
    """
    marked = bool(differences) and all(each.excludes_zero for each in differences)
    return marked, [marked or each.p < (1 - LEVEL) / len(differences) for each in differences]


def seeds_needed(shown: Difference) -> int | None:
    """How many seeds would exclude zero, if mean and spread stayed as they are; None beyond MOST_SEEDS."""
    if not math.isfinite(shown.half) or shown.mean == 0:
        return None
    spread = shown.half / quantile(shown.freedom) * math.sqrt(shown.n)
    for n in range(shown.n + 1, MOST_SEEDS + 1):
        freedom = n - 1 if shown.paired else 2 * (n - 1)
        if quantile(freedom) * spread / math.sqrt(n) < abs(shown.mean):
            return n
    return None
