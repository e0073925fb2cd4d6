"""What `ssl-runner evaluate` left in RUN/evaluation, as metrics of which no two ways of measuring share a name."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """A number that was measured after training, and what it depends on."""

    name: str  # test/probe/top1
    dataset: str
    fingerprint: str
    protocol: str
    version: str
    settings: str
    encoder: str
    step: int | None
    time: str
    value: float
    machine: Mapping[str, str] = field(default_factory=dict)  # device, commit and versions, where they were written


def results(folder: Path) -> tuple[tuple[Result, ...], list[str]]:
    """Every result in the JSON files of an evaluation folder, and a line for each file that is torn."""
    found: list[Result] = []
    broken = []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_bytes())
            rows = content.get("results", []) if isinstance(content, dict) else []
            found += [each for row in rows for each in values(row)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            broken.append(f"{file} is left out: {type(error).__name__} {' '.join(str(error).split())}")
    return tuple(found), broken


def values(row: Mapping[str, Any]) -> list[Result]:
    return [
        Result(
            name=f"{row['split']}/{row['protocol']}/{name}",
            dataset=str(row["dataset"]),
            fingerprint=str(row.get("fingerprint")),
            protocol=str(row["protocol"]),
            version=str(row["version"]),
            settings=str(row["settings_hash"]),
            encoder=str(row.get("encoder")),
            step=row.get("step"),
            time=str(row.get("time", "")),
            value=float(value),
            machine=machine(row),
        )
        for name, value in row["values"].items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]


def machine(row: Mapping[str, Any]) -> dict[str, str]:
    """On what a result was measured: `device`, `commit`, and the version of each library by its name."""
    versions = row.get("versions")
    facts = {
        **(versions if isinstance(versions, dict) else {}),
        "device": row.get("device"),
        "commit": row.get("commit"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def offer(runs: Sequence[Any]) -> tuple[list[dict[str, float]], dict[str, list[str]]]:
    """For each run its results as metrics; and by metric warnings of what was not measured alike.

    `test/probe/top1`, with `@dataset` where that is not the run's own; a random encoder's are `baseline/test/...`. A
    way of measuring is a version, settings and the data. Where there are several, the plain name is the way
    that most runs have, and each way has `#` and six digits.
    """
    gathered: list[dict[tuple[str, str], Result]] = []
    early = 0
    for run in runs:
        newest: dict[tuple[str, str], Result] = {}
        for each in sorted(run.results, key=lambda each: each.time):
            if each.encoder != "random" and each.step not in (None, run.step):
                early += 1
                continue
            own = each.dataset == run.choices.get("dataset") and each.fingerprint == str(run.environment.get("dataset"))
            name = each.name if own else f"{each.name}@{each.dataset}"
            name = f"baseline/{name}" if each.encoder == "random" else name
            newest[name, way(each, own)] = each  # of the very same kind the last one counts
        gathered.append(newest)
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for newest in gathered:
        for name, how in newest:
            ways[name.removeprefix("baseline/")][how] += 1 if not name.startswith("baseline/") else 0
    warnings: dict[str, list[str]] = defaultdict(list)
    for name, counted in ways.items():
        if len(counted) > 1:
            told = ", ".join(f"{name}#{how} ({n} runs)" for how, n in counted.most_common())
            warnings[name].append(
                f"{name} was measured in {len(counted)} ways, which are not mixed: {told}; plain is the first"
            )
        taken = counted.most_common(1)[0][0]
        warnings[name] += unlike(name, [newest[name, taken] for newest in gathered if (name, taken) in newest])
    if early:
        warnings[""].append(f"{early} results of checkpoints before the last step are left out")
    offered = []
    for newest in gathered:
        metrics: dict[str, float] = {}
        for (name, how), each in newest.items():
            counted = ways[name.removeprefix("baseline/")]
            if counted.most_common(1)[0][0] == how:
                metrics[name] = each.value
            if len(counted) > 1:
                metrics[f"{name}#{how}"] = each.value
        offered.append(metrics)
    return offered, warnings


def unlike(name: str, compared: Sequence[Result]) -> list[str]:
    """A line for each fact about the machine that differs between results."""
    lines = []
    for fact in dict.fromkeys(fact for each in compared for fact in each.machine):
        counted = Counter(each.machine.get(fact, "unknown") for each in compared)
        if len(counted) > 1:
            told = ", ".join(f"{value[:40]} ({n} run{'s' * (n > 1)})" for value, n in counted.most_common(3))
            more = f", {len(counted) - 3} more" * (len(counted) > 3)
            lines.append(f"{name}: {fact} of the evaluation differs: {told}{more}; the comparison may not be fair")
    return lines


def way(result: Result, own: bool) -> str:
    """Six digits that two results share where they were measured alike."""
    said = json.dumps([result.protocol, result.version, result.settings, None if own else result.fingerprint])
    return hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()[:6]
