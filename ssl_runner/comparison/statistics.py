"""Confidence intervals of means and differences over seeds, and when a group may be called the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MOST_SEEDS = 50  # no advice beyond


@dataclass(frozen=True)
class Interval:
    """A 95 % t interval: mean ± half, infinite for a single value."""

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

    def toward(self, larger: bool) -> float:
        """How far it speaks for the first of the two; against it if negative."""
        return self.mean if larger else -self.mean

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half


def quantile(freedom: float, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t: a share `level` of the distribution lies within."""
    return float(stdtrit(freedom, 0.5 + level / 2))


def interval(values: Sequence[float]) -> Interval:
    n, x = len(values), np.asarray(values, dtype=float)
    if n < 2:
        return Interval(float(x.mean()), math.inf, n)
    return Interval(float(x.mean()), quantile(n - 1) * float(x.std(ddof=1)) / math.sqrt(n), n)


def difference(best: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """The difference of two groups whose values are given by seed.

    Paired over the seeds that both have, if these are at least two and at least half of the smaller group's: the rule
    looks at seeds and not at values, so it does not choose the answer. Welch otherwise.
    """
    common = sorted(best.keys() & other.keys())
    if len(common) >= 2 and 2 * len(common) >= min(len(best), len(other)):
        d = np.array([best[seed] - other[seed] for seed in common])
        error, freedom = float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1.0
        return from_error(float(d.mean()), error, freedom, True, len(d))
    a, b = np.array([*best.values()]), np.array([*other.values()])
    mean, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return from_error(mean, 0.0, 1.0, False, n)
    u, v = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1)) if u + v > 0 else 1.0
    return from_error(mean, math.sqrt(u + v), freedom, False, n)


def from_error(mean: float, error: float, freedom: float, paired: bool, n: int) -> Difference:
    if error <= 1e-12 * max(1.0, abs(mean)):  # no spread but that of rounding
        return Difference(mean, math.inf, paired, n, freedom, 1.0)
    p = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(mean, quantile(freedom) * error, paired, n, freedom, p)


@dataclass(frozen=True)
class Judgement:
    """What the differences of the first group to each of the others show."""

    best: bool  # the first may be marked
    worse: list[bool]  # which of the others are shown not to be the best
    better: list[bool]  # which are shown to be better than the first, against the order of the means


def judge_differences(differences: Sequence[Difference], larger: bool) -> Judgement:
    """Whether the first group, which has the best mean, may be marked as the best; and what is shown of the others.

    It is marked if the 95 % interval of its difference to each of the others lies on its side of zero. That all do at
    once takes no correction (an intersection-union test: Berger, Technometrics 24:295, 1982). If it is not marked,
    another is called worse only if p < 5 % / number of others: what is claimed of several groups then holds for all of
    them with 95 %, although the best was chosen by looking (Bonferroni in place of Dunnett's quantile in multiple
    comparisons with the best: Hsu, Annals of Statistics 12:1136, 1984). Paired differences can point to the other group
    if seeds are not the same: means are then over more of them than differences.
    """
    toward = [each.toward(larger) for each in differences]
    best = bool(differences) and all(far > each.half for far, each in zip(toward, differences, strict=True))
    shown = [each.p < (1 - LEVEL) / len(differences) for each in differences]
    return Judgement(
        best,
        worse=[best or (is_shown and far > 0) for far, is_shown in zip(toward, shown, strict=True)],
        better=[is_shown and far < 0 for far, is_shown in zip(toward, shown, strict=True)],
    )


def seeds_needed(shown: Difference, larger: bool) -> int | None:
    """How many seeds would show the first to be better, if mean and spread stayed as they are.

    None beyond MOST_SEEDS, and if the mean speaks against it.
    """
    toward = shown.toward(larger)
    if not math.isfinite(shown.half) or toward <= 0:
        return None
    spread = shown.half / quantile(shown.freedom) * math.sqrt(shown.n)
    for n in range(shown.n + 1, MOST_SEEDS + 1):
        freedom = n - 1 if shown.paired else 2 * (n - 1)
        if quantile(freedom) * spread / math.sqrt(n) < toward:
            return n
    return None
