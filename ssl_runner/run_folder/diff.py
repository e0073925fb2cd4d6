"""Whether two runs of one job are the same: their numbers, the rows they logged, and each bit of their encoders."""

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

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import LOG, METRICS, SUMMARY, WEIGHTS
from ssl_runner.run_folder.metrics import read_rows


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in two runs."""

    where: str
    size: float  # absolute; infinite where one of the two lacks it

    def __str__(self) -> str:
        return f"{self.size:.3g} in {self.where}" if math.isfinite(self.size) else f"{self.where} in one alone"


@dataclass
class Comparison:
    """An old and a new run of a job, up to the step that both have reached."""

    step: int
    unfinished: list[str] = field(default_factory=list)  # a line for each run that is not completed
    numbers: list[tuple[str, float | None, float | None]] = field(default_factory=list)  # name, old, new
    weights: list[Difference] = field(default_factory=list)  # of the encoder, a tensor each
    tensors: int = 0  # 0 where encoders cannot be compared
    rows: list[Difference] = field(default_factory=list)  # numbers of metrics.jsonl
    compared: int = 0  # rows
    left_out: list[int] = field(default_factory=list)  # steps of rows that a resumed run averaged over a part alone

    @property
    def kinds(self) -> list[list[Difference]]:
        """Weights, numbers and rows that differ, each kind in its own unit."""
        return [self.weights, [d for name, a, b in self.numbers if (d := distance(name, a, b))], self.rows]

    @property
    def identical(self) -> bool:
        """Whether all that both runs have is the same to the last bit."""
        return not any(self.kinds) and self.compared > 0


def compare(old: Path, new: Path) -> Comparison:
    """Reads two run folders; what is absent or torn in one of them is a difference, or is not compared."""
    before, after = read_json(old / SUMMARY), read_json(new / SUMMARY)
    found = Comparison(min(reached(old, before), reached(new, after)))
    for name, summary in (("old", before), ("new", after)):
        if summary.get("status") != "completed":
            status = summary.get("status", "without a summary")
            found.unfinished.append(f"the {name} run is {status}")
    for part in ("baseline",) if found.unfinished else ("baseline", "final", "test"):
        a, b = (summary.get(part, {}) for summary in (before, after))
        found.numbers += [(f"{part} {name}", a.get(name), b.get(name)) for name in {**a, **b}]
    if not found.unfinished:
        compare_weights(old / WEIGHTS, new / WEIGHTS, found)
    compare_rows(old, new, found)
    return found


def reached(folder: Path, summary: Mapping[str, Any]) -> int:
    """The last step of a run that anything is known of; the summary of a killed one was written when it began."""
    return max([summary.get("step", 0), *(row["step"] for row in read_rows(folder / METRICS))])


def compare_weights(old: Path, new: Path, found: Comparison) -> None:
    """Compares tensors and not files, whose headers may differ."""
    try:
        a, b = load_file(old), load_file(new)
    except (OSError, SafetensorError):
        found.weights.append(Difference(WEIGHTS, math.inf))
        return
    found.tensors = len({**a, **b})
    for name in {**a, **b}:
        if name not in a or name not in b or a[name].shape != b[name].shape or a[name].dtype != b[name].dtype:
            found.weights.append(Difference(name, math.inf))
        elif not torch.equal(bits(a[name]), bits(b[name])):
            found.weights.append(Difference(name, (a[name].double() - b[name].double()).abs().max().item()))


def bits(x: Tensor) -> Tensor:
    return x.flatten().view(torch.uint8)


def compare_rows(old: Path, new: Path, found: Comparison) -> None:
    """Compares metrics.jsonl but for time and speed."""
    a, b = logged(old, found.step), logged(new, found.step)
    found.left_out = halved(old, a)
    keys = {*a, *b} - {(step, True) for step in found.left_out}
    if found.unfinished:  # it ended before or after the last step was measured
        keys -= {key for key in a.keys() ^ b.keys() if key[0] == found.step}
    found.compared = len(keys)
    for step, learnt in sorted(keys):
        mine, yours = a.get((step, learnt), {}), b.get((step, learnt), {})
        for name in {**mine, **yours}:
            if d := distance(f"{name} of step {step}", mine.get(name), yours.get(name)):
                found.rows.append(d)


def logged(folder: Path, upto: int) -> dict[tuple[int, bool], dict[str, float]]:
    """What was logged, by step and whether it is of training; without what no two runs share."""
    rows: dict[tuple[int, bool], dict[str, float]] = {}
    for row in read_rows(folder / METRICS):
        if row["step"] <= upto:
            learnt = any(name.startswith("speed/") for name in row)
            values = {k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")}
            rows.setdefault((row["step"], learnt), {}).update(values)
    return rows


def halved(folder: Path, rows: Mapping[tuple[int, bool], object]) -> list[int]:
    """Steps of the rows of training in the midst of which the run was resumed: they average what came after it."""
    text = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+) of", text)]
    steps = [0, *sorted(step for step, learnt in rows if learnt)]
    return [b for a, b in itertools.pairwise(steps) if any(a < step < b for step in resumed)]


def distance(name: str, a: float | None, b: float | None) -> Difference | None:
    """None where two numbers are the same."""
    if a == b:
        return None
    return Difference(name, math.inf if a is None or b is None else abs(a - b))
