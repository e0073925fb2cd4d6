"""Objective of a sweep: a metric's curve and value, whether smaller is better, and early stop of bad jobs by halving.

Asynchronous successive halving, by stopping: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht, Talwalkar: A
system for massively parallel hyperparameter tuning, MLSys 2020, arXiv 1810.05934.
Differs: a job that is not among the best 1/eta at a rung is stopped, not paused: nothing is promoted later on.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import MOST, at_once
from ssl_runner.run_folder.metrics import finite_numbers, is_count, is_number, new_name
from ssl_runner.run_folder.summary import ENDED, guessed_meaning

COSTS = ("seconds", "peak_memory_mb")
SUMMARY = (*COSTS, "step", "samples_per_second")  # numbers at the top level of a summary.json
Points = Sequence[tuple[float, float]]  # (share of the run done, value), in order


def is_better_smaller(metric: str) -> bool:
    """Of losses, errors and costs; of all else the largest is taken for the best. No run has told it yet."""
    return metric in COSTS or guessed_meaning(metric)["better"] == "smaller"


def value(summary: Mapping[str, Any], curve: Sequence[tuple[int, float]], metric: str) -> float | None:
    """A metric of a job that is completed or was stopped; None for others, whose encoder is unfinished.

    A finite number of summary.json, or else the last one that was logged: the summary has no numbers of the step at
    which a job was stopped, and none that are not an evaluator's.
    """
    known = {**finite_numbers(summary), **finite_numbers(summary.get("final"))}
    number = known.get(metric, curve[-1][1] if curve else math.nan)
    return float(number) if summary.get("status") in ENDED and math.isfinite(number) else None


@dataclass
class Curve:
    """The last step of a run, and a metric as points (step, value), from a growing metrics.jsonl."""

    path: Path
    metric: str
    step: int = 0
    points: list[tuple[int, float]] = field(default_factory=list)
    file: int = 0  # its inode
    offset: int = 0  # bytes that were read

    def read(self) -> bool:
        """Reads new rows. Returns whether there were any; a file that was begun again is read from its start."""
        try:
            with open(self.path, "rb", opener=at_once) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self.file or status.st_size < self.offset:
                    self.file, self.offset, self.step, self.points = status.st_ino, 0, 0, []
                file.seek(self.offset)
                new = file.read(MOST)
        except OSError:
            return False
        whole = new[: new.rfind(b"\n") + 1]  # of the last row only a part may be there
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                row = {new_name(name): number for name, number in json.loads(line).items()}
            except (ValueError, AttributeError, RecursionError):
                continue  # a line that a crash has torn
            if is_count(row.get("step")):
                self.step = row["step"]
                self.points += [(self.step, row[self.metric])] if is_number(row.get(self.metric)) else []
        return bool(whole)


@dataclass
class Halving:
    """Rungs at shares of a run: `first`, `first * eta`, ... below 1. A job is judged once at each.

    The best values are the largest, or the `smaller`.
    """

    eta: int
    first: float
    smaller: bool = False
    values: dict[int, dict[str, float]] = field(default_factory=dict)  # at each rung, of the jobs that have reached it
    judged: set[tuple[int, str]] = field(default_factory=set)

    @property
    def rungs(self) -> list[float]:
        count = max(1, math.ceil(-math.log(self.first, self.eta) - 1e-9))
        return [self.first * self.eta**number for number in range(count)]

    def remember(self, job: str, points: Points) -> None:
        """Takes a job's values for others to be judged by. At a rung counts the first value at it or after it."""
        for number, rung in enumerate(self.rungs):
            for value in [value for share, value in points if share >= rung - 1e-9][:1]:
                self.values.setdefault(number, {}).setdefault(job, value)

    def stop_reason(self, job: str, points: Points) -> str | None:
        """Reason to stop the job at a rung, or None. Needs at least eta jobs at that rung."""
        self.remember(job, points)
        for number, values in self.values.items():
            if job not in values or (number, job) in self.judged:
                continue
            self.judged.add((number, job))
            kept = len(values) // self.eta
            best = sorted(values.values(), reverse=not self.smaller)[:kept]
            if best and values[job] not in best:
                share = f"{values[job]:.4g} at {100 * self.rungs[number]:.0f} % of the run"
                return f"{share}; the best {kept} of {len(values)} had {best[-1]:.4g}"
        return None
