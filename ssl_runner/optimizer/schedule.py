"""Learning-rate schedules as shares of the peak: pure functions of how far training is."""

import math
from collections.abc import Sequence


def linear(step: int, steps: int) -> float:
    """The share in a warm-up of `steps` steps, `step` in [0, steps): the line from 0 just before it to 1 just after it.

    Neither end is one of its steps, so no step is wasted at a rate of 0 and the peak is not taken twice.
    """
    return (step + 1) / (steps + 1)


def cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 at progress 0 to `final` at 1. Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983, eq. 5."""
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def stairs(progress: float, milestones: Sequence[float], gamma: float) -> float:
    """1, times `gamma` for each milestone (a share in (0, 1)) that `progress` has reached."""
    return gamma ** sum(milestone <= progress for milestone in milestones)
