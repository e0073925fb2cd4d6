"""Groups of runs, and what their seeds show: which is the best, and which are worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_runner.comparison.record import Run
from ssl_runner.comparison.statistics import Difference, Interval, difference, seeds_needed, standing


@dataclass
class Group:
    """Completed runs with the same settings, and what they say together. Figures are means over its runs."""

    settings: dict[str, str]
    runs: list[Run]
    values: dict[int, float]  # the metric by seed; runs of the same seed count as one, by their mean
    interval: Interval | None
    baseline: float | None
    test: Interval | None
    seconds: float
    images_seen: float
    images_per_second: float
    steps: float
    to_best: Difference | None = None
    worse: bool = False  # shown not to be the best
    front: bool = False  # no other group is better in less time


def judge(groups: Sequence[Group], larger: bool) -> tuple[bool, str]:
    """Fills in the differences to the first group; whether it is shown to be the best, and a sentence on it."""
    measured = [each for each in groups if each.values]
    if len(measured) < 2:
        return False, ""
    first, others = measured[0], measured[1:]
    differences = [difference(first.values, each.values) for each in others]
    best, worse = standing(differences)
    for each, shown, is_worse in zip(others, differences, worse, strict=True):
        each.to_best, each.worse = shown, is_worse
    if best:
        what = (
            "interval of its difference to the other excludes"
            if len(others) == 1
            else "intervals of its differences to all others exclude"
        )
        return True, f"The first is the best: the 95 % {what} zero."
    if all(len(each.values) < 2 for each in measured):
        return False, "One seed each, so no difference is shown: run more, as in seed=0,1,2."
    undecided = [each for each, is_worse in zip(others, worse, strict=True) if not is_worse]
    alone = [each for each in undecided if each.to_best and math.isinf(each.to_best.half)]
    which = "the other" if len(others) == 1 else f"{len(undecided)} of {len(others)} others"
    said = f"No best is marked: no difference is shown between the first and {which}."
    needed = [seeds_needed(each.to_best) for each in undecided if each.to_best and not each.to_best.excludes_zero]
    if alone:
        return False, f"{said} Where one of two groups has a single seed, there is no interval."
    if len(needed) > 0 and None not in needed:
        most = max(n for n in needed if n is not None)
        said += f" If means and spreads stayed as they are, about {most} seeds each would show it."
    elif needed:
        said += " If means and spreads stayed as they are, not even 50 seeds each would show all."
    return False, said


def mark_front(groups: Sequence[Group], larger: bool) -> None:
    """Groups that no other surpasses in less time."""
    measured = [(each, each.interval.mean) for each in groups if each.interval]
    for each, value in measured:
        rivals = [(other.seconds, mean) for other, mean in measured if other is not each]
        each.front = not any(
            seconds <= each.seconds
            and (mean >= value if larger else mean <= value)
            and (seconds, mean) != (each.seconds, value)
            for seconds, mean in rivals
        )
