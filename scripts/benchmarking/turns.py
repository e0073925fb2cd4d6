"""Contestants in turn, A B A B and in every second round B A, so that what disturbs the machine disturbs them alike."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarking.process import Failed, Hired

LEAST, MOST = 2, 100  # steps a turn


def alternate(
    hired: Mapping[str, Hired],
    *,
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
    lose: Callable[[str, Failed], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds a step of each contestant in each round; a turn is as many steps as take `seconds`, up to MOST, and then
    as many more as the contestant wants to be counted fairly.

    One that fails is told to `lose` and has no further turn and no times; without `lose` it ends the contest.
    """
    found: dict[str, list[float]] = {name: [] for name in hired}
    steps: dict[str, int] = {}

    @contextmanager
    def turn_of(name: str, doing: str) -> Iterator[Hired]:
        tell(f"{doing}: {name}")
        try:
            yield hired[name]
        except Failed as error:
            if lose is None:
                raise
            del found[name]
            lose(name, error)

    for name in hired:
        with turn_of(name, "how fast") as each:
            took = each.took or each.run(LEAST)
            steps[name] = each.turn(max(LEAST, min(MOST, math.ceil(seconds / took))))
    for number in range(rounds):
        for name in list(found)[:: -1 if number % 2 else 1]:
            with turn_of(name, f"round {number + 1} of {rounds}") as each:
                found[name].append(each.run(steps[name]))
    return found


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as fast the second is: the median over rounds of the quotient in each round."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))
