"""Early stop of hopeless jobs: asynchronous successive halving, by stopping.

Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht, Talwalkar: A system for massively parallel hyperparameter
tuning, MLSys 2020, arXiv 1810.05934.
Differs: a job that is not among the best 1/eta at a rung is stopped, not paused: nothing is promoted later on.
"""

import math
from dataclasses import dataclass, field


@dataclass
class Halving:
    """Rungs at shares of a run: `first`, `first * eta`, ... below 1. A job is judged once at each.

    `values` holds, for each rung, what each job had there: the larger, the better.
    """

    eta: int
    first: float
    values: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def rungs(self) -> list[float]:
        count = max(1, math.ceil(-math.log(self.first, self.eta) - 1e-9))
        return [self.first * self.eta**number for number in range(count)]

    def hopeless(self, job: str, curve: list[tuple[float, float]]) -> str | None:
        """Why a job is to stop, or None. `curve`: (share of the run done, value), in order.

        At a rung counts the first value at it or after it. Fewer than eta jobs at a rung tell nothing.
        """
        for number, rung in enumerate(self.rungs):
            at = self.values.setdefault(number, {})
            value = next((value for share, value in curve if share >= rung - 1e-9), None)
            if value is None or job in at:
                continue
            at[job] = value
            if len(at) < self.eta:
                continue
            kept = max(1, len(at) // self.eta)
            threshold = sorted(at.values(), reverse=True)[kept - 1]
            if value < threshold:
                return f"{value:.4g} at {100 * rung:.0f} % of the run; the best {kept} of {len(at)} had {threshold:.4g}"
        return None
