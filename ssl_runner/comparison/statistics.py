"""Statistics over seeds: confidence intervals, differences, and when a group of runs may be called the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from ssl_runner.comparison.run import ABSENT, Run
from ssl_runner.comparison.settings import ORDER, shorten
from ssl_runner.errors import are

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
    toward: float  # the mean, negative if it speaks against the best


def quantile(freedom: float) -> float:
    """Two-sided 95 % quantile of Student's t."""
    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def interval(values: Sequence[float]) -> Interval:
    n, mean = len(values), float(np.mean(values))
    half = quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Interval(mean, half)


def difference(best: Mapping[int, float], other: Mapping[int, float], larger: bool = True) -> Difference:
    """The difference of two groups whose values are given by seed; `larger`: whether larger values are better.

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
    half, p = math.inf, 1.0
    if error > 1e-12 * max(1.0, abs(mean)):  # more than the spread of rounding
        half, p = quantile(freedom) * error, 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(mean, half, paired, n, freedom, p, mean if larger else -mean)


def judge(differences: Sequence[Difference]) -> tuple[bool, list[bool], list[bool]]:
    """Whether the first group, which has the best mean, may be marked as the best; which others are shown to be worse
    than the best; and which are shown to be better than the first, against the order of the means.

    The first is marked if the 95 % interval of its difference to each of the others lies on its side of zero. That all
    do at once takes no correction (an intersection-union test: Berger, Technometrics 24:295, 1982). If it is not
    marked, another is called worse only if p < 5 % / number of others: what is claimed of several groups then holds for
    all of them with 95 %, although the best was chosen by looking (Bonferroni in place of Dunnett's quantile in
    multiple comparisons with the best: Hsu, Annals of Statistics 12:1136, 1984). It is that they are not the best of
    all, and not that they are worse than the one which happens to be first: of ten equal groups of five seeds, one is
    called worse than the first in 10 to 12 % of comparisons, and a given one in 1 %. Paired differences can point to
    the other group if seeds are not the same: means are then over more of them than differences.
    """
    toward, half, p = np.array([(each.toward, each.half, each.p) for each in differences]).T
    best, clear = bool((toward > half).all()), p < (1 - LEVEL) / len(differences)
    return best, (best | (clear & (toward > 0))).tolist(), (clear & (toward < 0)).tolist()


def seeds_needed(shown: Difference) -> int | None:
    """How many seeds would show the first to be better, if mean and spread stayed as they are.

    None beyond MOST_SEEDS, and if the mean speaks against it.
    """
    if not math.isfinite(shown.half) or shown.toward <= 0:
        return None
    spread = shown.half / quantile(shown.freedom) * math.sqrt(shown.n)
    freedom = {n: n - 1 if shown.paired else 2 * (n - 1) for n in range(shown.n + 1, MOST_SEEDS + 1)}
    return next((n for n in freedom if quantile(freedom[n]) * spread / math.sqrt(n) < shown.toward), None)


@dataclass
class Group:
    """Completed runs with the same settings."""

    settings: dict[str, str]
    runs: list[Run]
    values: dict[int, float]  # the metric by seed; runs of the same seed count as one, by their mean
    interval: Interval | None
    raw: float | None
    baseline: float | None
    test: Interval | None
    to_best: Difference | None = None
    worse: bool = False  # shown not to be the best
    better: bool = False  # shown to be better than the first on the seeds that both have, although its mean is not
    front: bool = False  # no other group is better in less time

    def mean(self, fact: str) -> float:
        """Mean of a number that every run has, as `seconds`."""
        return sum(getattr(run, fact) for run in self.runs) / len(self.runs)

    @property
    def name(self) -> str:
        """Its settings in short: simclr, lr 0.1."""
        names, given = shorten([*self.settings]), self.settings.items()
        parts = [value if key in ORDER else f"{names[key]} {value}" for key, value in given if value != ABSENT]
        return ", ".join(parts) or self.runs[0].name


def judge_groups(groups: Sequence[Group], larger: bool) -> tuple[bool, str]:
    """Marks the front and what differs from the first group; whether that is shown to be the best, and a sentence."""
    sign = 1 if larger else -1
    costs = [(each, each.mean("seconds"), sign * each.interval.mean) for each in groups if each.interval]
    for each, seconds, value in costs:
        each.front = not any(s <= seconds and v >= value and (s, v) != (seconds, value) for _, s, v in costs)
    measured = [each for each in groups if each.values]
    if len(measured) < 2:
        return False, ""
    first, others = measured[0], measured[1:]
    differences = [difference(first.values, each.values, larger) for each in others]
    best, worse, better = judge(differences)
    for number, each in enumerate(others):
        each.to_best, each.worse, each.better = differences[number], worse[number], better[number]
    if best:
        one = "interval of its difference to the other excludes"
        what = one if len(others) == 1 else "intervals of its differences to all others exclude"
        return True, f"The first is the best: the 95 % {what} zero."
    if all(len(each.values) < 2 for each in measured):
        return False, "One seed each, so no difference is shown: run more, as in seed=0,1,2."
    return False, "No best is marked: " + explain_undecided(first, others)


def explain_undecided(first: Group, others: Sequence[Group]) -> str:
    """Why the first is not shown to be the best, and what would show it."""
    advice = "the same seeds in every group."
    if better := [each.name for each in others if each.better]:
        ahead = f"{' and '.join(better)} {are(len(better))} better than the first"
        return f"on the seeds that both have, {ahead}, and the means are over different seeds. Run {advice}"
    left = [(each, each.to_best) for each in others if each.to_best and not each.worse]
    which = "the other" if len(others) == 1 else f"{len(left)} of {len(others)} others"
    verdict = f"no difference is shown between the first and {which}."
    if any(min(len(first.values), len(each.values)) < 2 for each, _ in left):
        return f"{verdict} If one of two groups has a single seed, there is no interval."
    if any(math.isinf(shown.half) for _, shown in left):
        return f"{verdict} If a difference does not vary over seeds, there is no spread to judge it by."
    if names := [each.name for each, shown in left if shown.toward < 0]:
        ahead = f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} the better mean"
        return f"{verdict} On the seeds that both have, {ahead}: run {advice}"
    needed = [seeds_needed(shown) for _, shown in left if shown.toward <= shown.half]
    if None in needed:
        return f"{verdict} If means and spreads stayed as they are, not even {MOST_SEEDS} seeds each would show it."
    if most := max((n for n in needed if n is not None), default=0):
        verdict += f" If means and spreads stayed as they are, about {most} seeds each would show it."
    return verdict
