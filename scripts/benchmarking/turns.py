"""Contestants in turn: A B A B, so that what disturbs the machine disturbs them alike."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarking.process import Hired

LEAST, MOST = 2, 100  # steps a turn


def alternate(
    hired: Mapping[str, Hired], *, rounds: int, seconds: float, most: int = MOST, tell: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds a step of each contestant in each round; a turn is as many steps as take `seconds`, up to `most`."""
    steps = {}
    for name, each in hired.items():
        tell(f"how fast is {name}?")
        steps[name] = max(LEAST, min(most, math.ceil(seconds / each.run(LEAST))))
    found: dict[str, list[float]] = {name: [] for name in hired}
    for number in range(rounds):
        for name, each in hired.items():
            tell(f"round {number + 1} of {rounds}: {name}")
            found[name].append(each.run(steps[name]))
    return found


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as fast the second is: the median over rounds of the quotient in each round."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))
