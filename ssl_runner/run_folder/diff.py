"""Differences between two runs of one job: their numbers, the rows they logged, and each bit of their encoders."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from ssl_runner.run_folder.atomic import read_text
from ssl_runner.run_folder.layout import LOG, METRICS, WEIGHTS
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.run_folder.weights import read_weights


class Mismatch(NamedTuple):
    """Something that is not the same in two runs."""

    where: str
    size: float  # absolute; infinite if one of the two lacks it

    def __str__(self) -> str:
        return f"{self.size:.3g} in {self.where}" if math.isfinite(self.size) else f"{self.where} in one alone"


@dataclass
class RunDiff:
    """An old and a new run of a job, up to the step that both have reached."""

    step: int
    unfinished: list[str]  # a line for each run that is not completed
    numbers: list[tuple[str, float | None, float | None]]  # name, old, new
    weights: list[Mismatch] = field(default_factory=list)  # of the encoder, a tensor each
    tensors: int = 0  # 0 if encoders cannot be compared
    rows: list[Mismatch] = field(default_factory=list)  # numbers of metrics.jsonl
    compared: int = 0  # rows
    left_out: list[int] = field(default_factory=list)  # log steps whose averaging window was cut by a resume
    one_sided: list[str] = field(default_factory=list)  # numbers that one run never has, of protocols that both have

    @property
    def kinds(self) -> list[list[Mismatch]]:
        """Weights, numbers and rows that differ, each kind in its own unit."""
        return [self.weights, distances(self.numbers), self.rows]

    @property
    def identical(self) -> bool:
        """Whether all that both runs have is the same to the last bit."""
        return not any(self.kinds) and self.compared > 0


def diff_runs(old: Path, new: Path) -> RunDiff:
    """Reads two run folders. A file that one of them lacks, or that is torn, is a difference or is not compared."""
    summaries = {"old": read_summary(old), "new": read_summary(new)}
    states = {name: each.get("status", "without a summary") for name, each in summaries.items()}
    unfinished = [f"the {name} run is {status}" for name, status in states.items() if status != "completed"]
    numbers = []
    for part in ("baseline",) if unfinished else ("baseline", "final"):
        a, b = (each.get(part, {}) for each in summaries.values())
        numbers += [(f"{part} {name}", a.get(name), b.get(name)) for name in {**a, **b}]
    # the summary of a killed run was written when it began
    steps = [
        max([summary.get("step", 0), *(row["step"] for row in read_rows(folder / METRICS))])
        for folder, summary in zip((old, new), summaries.values(), strict=True)
    ]
    diff = RunDiff(min(steps), unfinished, numbers)
    if not unfinished:
        compare_weights(old / WEIGHTS, new / WEIGHTS, diff)
    compare_rows(old, new, diff)
    return diff


def compare_weights(old: Path, new: Path, diff: RunDiff) -> None:
    """Compares tensors and not files, whose headers may differ."""
    try:
        a, b = read_weights(old), read_weights(new)
    except (OSError, ValueError):
        diff.weights.append(Mismatch(WEIGHTS, math.inf))
        return
    diff.tensors = len({**a, **b})
    for name in {**a, **b}:
        if name not in a or name not in b or a[name].shape != b[name].shape or a[name].dtype != b[name].dtype:
            diff.weights.append(Mismatch(name, math.inf))
        elif not torch.equal(*(each[name].flatten().view(torch.uint8) for each in (a, b))):  # bits: NaN is itself
            diff.weights.append(Mismatch(name, (a[name].double() - b[name].double()).abs().max().item()))


def compare_rows(old: Path, new: Path, diff: RunDiff) -> None:
    """Compares metrics.jsonl except time and speed."""
    a, b = rows_by_step(old, diff.step), rows_by_step(new, diff.step)
    text = read_text(old / LOG)
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+) of", text)]
    steps = [0, *sorted(step for step, training in a if training)]
    diff.left_out = [end for start, end in itertools.pairwise(steps) if any(start < step < end for step in resumed)]
    keys = {*a, *b} - {(step, True) for step in diff.left_out}
    if diff.unfinished:  # it ended before or after the last step was measured
        keys -= {key for key in a.keys() ^ b.keys() if key[0] == diff.step}
    diff.compared = len(keys)
    names = [{name for values in rows.values() for name in values} for rows in (a, b)]
    groups = set.intersection(*({name.rpartition("/")[0] for name in each} for each in names))
    diff.one_sided = sorted(name for name in names[0] ^ names[1] if name.rpartition("/")[0] in groups)
    diff.numbers = [each for each in diff.numbers if each[0].partition(" ")[2] not in diff.one_sided]
    for key in sorted(keys):
        before, after = a.get(key, {}), b.get(key, {})
        compared = [name for name in {**before, **after} if name not in diff.one_sided]
        diff.rows += distances((f"{name} of step {key[0]}", before.get(name), after.get(name)) for name in compared)


def rows_by_step(folder: Path, last: int) -> dict[tuple[int, bool], dict[str, float]]:
    """Logged numbers up to a step, by step and whether they are of training; without time and speed."""
    rows: dict[tuple[int, bool], dict[str, float]] = defaultdict(dict)
    for row in read_rows(folder / METRICS):
        training = any(name.startswith("speed/") for name in row)
        if row["step"] <= last:
            values = {k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")}
            rows[row["step"], training].update(values)
    return rows


def distances(numbers: Iterable[tuple[str, float | None, float | None]]) -> list[Mismatch]:
    """Numbers that are not the same in both runs."""
    return [Mismatch(name, math.inf if a is None or b is None else abs(a - b)) for name, a, b in numbers if a != b]
