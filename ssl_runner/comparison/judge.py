"""Groups of runs judged over their seeds: which is the best, and which are worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_runner.comparison.run import ABSENT, Run
from ssl_runner.comparison.settings import ORDER, shorten
from ssl_runner.comparison.statistics import MOST_SEEDS, Difference, Interval, difference, judge, seeds_needed


@dataclass
class Group:
    """Completed runs with the same settings."""

    settings: dict[str, str]
    runs: list[Run]
    values: dict[int, float]  # the metric by seed; runs of the same seed count as one, by their mean
    interval: Interval | None
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
    """Fills in the differences to the first group; whether it is shown to be the best, and a sentence on it."""
    measured = [each for each in groups if each.values]
    if len(measured) < 2:
        return False, ""
    first, others = measured[0], measured[1:]
    differences = [difference(first.values, each.values) for each in others]
    best, *shown = judge(differences, larger)
    for each, *marks in zip(others, differences, *shown, strict=True):
        each.to_best, each.worse, each.better = marks
    if best:
        one = "interval of its difference to the other excludes"
        what = one if len(others) == 1 else "intervals of its differences to all others exclude"
        return True, f"The first is the best: the 95 % {what} zero."
    if all(len(each.values) < 2 for each in measured):
        return False, "One seed each, so no difference is shown: run more, as in seed=0,1,2."
    return False, "No best is marked: " + explain_undecided(first, others, larger)


def explain_undecided(first: Group, others: Sequence[Group], larger: bool) -> str:
    """Why the first is not shown to be the best, and what would show it."""
    advice = "the same seeds in every group."
    if better := [each.name for each in others if each.better]:
        ahead = f"{' and '.join(better)} {'is' if len(better) == 1 else 'are'} better than the first"
        return f"on the seeds that both have, {ahead}, and the means are over different seeds. Run {advice}"
    left = [(each, each.to_best) for each in others if each.to_best and not each.worse]
    which = "the other" if len(others) == 1 else f"{len(left)} of {len(others)} others"
    verdict = f"no difference is shown between the first and {which}."
    if any(min(len(first.values), len(each.values)) < 2 for each, _ in left):
        return f"{verdict} Where one of two groups has a single seed, there is no interval."
    if any(math.isinf(shown.half) for _, shown in left):
        return f"{verdict} Where a difference does not vary over seeds, there is no spread to judge it by."
    if names := [each.name for each, shown in left if shown.toward(larger) < 0]:
        ahead = f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} the better mean"
        return f"{verdict} On the seeds that both have, {ahead}: run {advice}"
    needed = [seeds_needed(shown, larger) for _, shown in left if shown.toward(larger) <= shown.half]
    if None in needed:
        return f"{verdict} If means and spreads stayed as they are, not even {MOST_SEEDS} seeds each would show all."
    if most := max((n for n in needed if n is not None), default=0):
        verdict += f" If means and spreads stayed as they are, about {most} seeds each would show it."
    return verdict


def mark_pareto_front(groups: Sequence[Group], larger: bool) -> None:
    """Marks the groups that no other surpasses in less time."""
    sign = 1 if larger else -1
    costs = [(each, each.mean("seconds"), sign * each.interval.mean) for each in groups if each.interval]
    for each, seconds, value in costs:
        each.front = not any(s <= seconds and v >= value and (s, v) != (seconds, value) for _, s, v in costs)
