"""Early stop of bad jobs: asynchronous successive halving, by stopping.

Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht, Talwalkar: A system for massively parallel hyperparameter
tuning, MLSys 2020, arXiv 1810.05934.
Differs: a job that is not among the best 1/eta at a rung is stopped, not paused: nothing is promoted later on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Curve = Sequence[tuple[float, float]]  # (share of the run done, value), in order


@dataclass
class Halving:
    """Rungs at shares of a run: `first`, `first * eta`, ... below 1. A job is judged once at each.

    `values` holds, for each rung, what each job had there: the larger, the better, or else the `smaller`.
    """

    eta: int
    first: float
    smaller: bool = False
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    judged: set[tuple[int, str]] = field(default_factory=set)

    @property
    def rungs(self) -> list[float]:
        count = max(1, math.ceil(-math.log(self.first, self.eta) - 1e-9))
        return [self.first * self.eta**number for number in range(count)]

    def remember(self, job: str, curve: Curve) -> None:
        """Takes a job's values for others to be judged by. At a rung counts the first value at it or after it."""
        for number, rung in enumerate(self.rungs):
            value = next((value for share, value in curve if share >= rung - 1e-9), None)
            if value is not None:
                self.values.setdefault(number, {}).setdefault(job, value)

    def stop_reason(self, job: str, curve: Curve) -> str | None:
        """Reason to stop the job at a rung, or None. Needs at least eta jobs at that rung."""
        self.remember(job, curve)
        for number, rung in enumerate(self.rungs):
            values = self.values.get(number, {})
            if job not in values or (number, job) in self.judged:
                continue
            self.judged.add((number, job))
            if len(values) < self.eta:
                continue
            kept = max(1, len(values) // self.eta)
            threshold = sorted(values.values(), reverse=not self.smaller)[kept - 1]
            if values[job] > threshold if self.smaller else values[job] < threshold:
                share = f"{values[job]:.4g} at {100 * rung:.0f} % of the run"
                return f"{share}; the best {kept} of {len(values)} had {threshold:.4g}"
        return None
