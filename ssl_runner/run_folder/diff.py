"""Differences between two runs of one job: their numbers, the rows they logged, and each bit of their encoders."""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssl_runner.run_folder.layout import LOG, METRICS, WEIGHTS
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import read_summary


@dataclass(frozen=True)
class Mismatch:
    """Something that is not the same in two runs."""

    where: str
    size: float  # absolute; infinite if one of the two lacks it

    def __str__(self) -> str:
        return f"{self.size:.3g} in {self.where}" if math.isfinite(self.size) else f"{self.where} in one alone"


@dataclass
class RunDiff:
    """An old and a new run of a job, up to the step that both have reached."""

    step: int
    unfinished: list[str] = field(default_factory=list)  # a line for each run that is not completed
    numbers: list[tuple[str, float | None, float | None]] = field(default_factory=list)  # name, old, new
    weights: list[Mismatch] = field(default_factory=list)  # of the encoder, a tensor each
    tensors: int = 0  # 0 if encoders cannot be compared
    rows: list[Mismatch] = field(default_factory=list)  # numbers of metrics.jsonl
    compared: int = 0  # rows
    left_out: list[int] = field(default_factory=list)  # log steps whose averaging window was cut by a resume

    @property
    def kinds(self) -> list[list[Mismatch]]:
        """Weights, numbers and rows that differ, each kind in its own unit."""
        return [self.weights, [d for name, a, b in self.numbers if (d := distance(name, a, b))], self.rows]

    @property
    def identical(self) -> bool:
        """Whether all that both runs have is the same to the last bit."""
        return not any(self.kinds) and self.compared > 0


def diff_runs(old: Path, new: Path) -> RunDiff:
    """Reads two run folders. A file that one of them lacks, or that is torn, is a difference or is not compared."""
    before, after = read_summary(old), read_summary(new)
    diff = RunDiff(min(last_step(old, before), last_step(new, after)))
    for name, summary in (("old", before), ("new", after)):
        if summary.get("status") != "completed":
            status = summary.get("status", "without a summary")
            diff.unfinished.append(f"the {name} run is {status}")
    for part in ("baseline",) if diff.unfinished else ("baseline", "final"):
        a, b = (summary.get(part, {}) for summary in (before, after))
        diff.numbers += [(f"{part} {name}", a.get(name), b.get(name)) for name in {**a, **b}]
    if not diff.unfinished:
        compare_weights(old / WEIGHTS, new / WEIGHTS, diff)
    compare_rows(old, new, diff)
    return diff


def last_step(folder: Path, summary: Mapping[str, Any]) -> int:
    """The last step that is known of a run; the summary of a killed one was written when it began."""
    return max([summary.get("step", 0), *(row["step"] for row in read_rows(folder / METRICS))])


def compare_weights(old: Path, new: Path, diff: RunDiff) -> None:
    """Compares tensors and not files, whose headers may differ."""
    try:
        a, b = load_file(old), load_file(new)
    except (OSError, SafetensorError):
        diff.weights.append(Mismatch(WEIGHTS, math.inf))
        return
    diff.tensors = len({**a, **b})
    for name in {**a, **b}:
        if name not in a or name not in b or a[name].shape != b[name].shape or a[name].dtype != b[name].dtype:
            diff.weights.append(Mismatch(name, math.inf))
        elif not torch.equal(bits(a[name]), bits(b[name])):
            diff.weights.append(Mismatch(name, (a[name].double() - b[name].double()).abs().max().item()))


def bits(x: Tensor) -> Tensor:
    return x.flatten().view(torch.uint8)


def compare_rows(old: Path, new: Path, diff: RunDiff) -> None:
    """Compares metrics.jsonl except time and speed."""
    a, b = rows_by_step(old, diff.step), rows_by_step(new, diff.step)
    diff.left_out = partial_windows(old, a)
    keys = {*a, *b} - {(step, True) for step in diff.left_out}
    if diff.unfinished:  # it ended before or after the last step was measured
        keys -= {key for key in a.keys() ^ b.keys() if key[0] == diff.step}
    diff.compared = len(keys)
    for step, training in sorted(keys):
        before, after = a.get((step, training), {}), b.get((step, training), {})
        for name in {**before, **after}:
            if d := distance(f"{name} of step {step}", before.get(name), after.get(name)):
                diff.rows.append(d)


def rows_by_step(folder: Path, last: int) -> dict[tuple[int, bool], dict[str, float]]:
    """Logged numbers up to a step, by step and whether they are of training; without time and speed."""
    rows: dict[tuple[int, bool], dict[str, float]] = {}
    for row in read_rows(folder / METRICS):
        if row["step"] <= last:
            training = any(name.startswith("speed/") for name in row)
            values = {k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")}
            rows.setdefault((row["step"], training), {}).update(values)
    return rows


def partial_windows(folder: Path, rows: Mapping[tuple[int, bool], object]) -> list[int]:
    """Log steps whose averaging window was cut by a resume."""
    text = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+) of", text)]
    steps = [0, *sorted(step for step, training in rows if training)]
    return [b for a, b in itertools.pairwise(steps) if any(a < step < b for step in resumed)]


def distance(name: str, a: float | None, b: float | None) -> Mismatch | None:
    """None if two numbers are the same."""
    if a == b:
        return None
    return Mismatch(name, math.inf if a is None or b is None else abs(a - b))
