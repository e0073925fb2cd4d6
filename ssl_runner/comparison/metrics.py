"""Metrics of runs: every number that was measured, in training and after it, and a name for each way of measuring."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssl_runner.comparison.settings import ABSENT, flat
from ssl_runner.comparison.wording import list_counts, plural
from ssl_runner.run_folder.results import digest
from ssl_runner.run_folder.summary import guessed_meaning, protocol_of

if TYPE_CHECKING:
    from ssl_runner.comparison.record import Run

STAGES = ("baseline", "best", "gain")  # before a name: of the random encoder, the best, the last less the random one's
Meaning = Mapping[str, Any]  # {"better": "larger" | "smaller" | None, "unit": "share" | "number"}


class Result(NamedTuple):
    """A number that was measured once, and what it depends on."""

    name: str  # test/probe/top1, with @dataset if that is not the run's own
    stage: str  # baseline, best, or "" for the trained encoder
    value: float
    meaning: Meaning
    settings: Mapping[str, str]  # of the evaluator, and its version
    machine: Mapping[str, str] | None = None  # of `ssl-runner evaluate`; None in training

    @property
    def way(self) -> str:
        """Six digits that two results share if they were measured alike."""
        return digest(sorted(self.settings.items()), 3)


def training_results(summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[Result]:
    """The numbers of a summary in today's names."""
    evaluators = config.get("evaluator") or {}
    meanings, protocols = summary.get("metrics") or {}, summary.get("protocols") or {}
    results = []
    for part, stage in (("baseline", "baseline"), ("best", "best"), ("final", "")):
        for name, value in finite_numbers(summary.get(part)).items():
            protocol = protocol_of(name)
            settings = settings_of(evaluators.get(protocol), (protocols.get(protocol) or {}).get("version"))
            results.append(Result(name, stage, value, meanings.get(name) or guessed_meaning(name), settings))
    return results


def evaluation_results(
    folder: Path, choice: str | None, fingerprint: str
) -> tuple[list[tuple[Any, Result]], list[str]]:
    """Numbers in the JSON files of an evaluation folder with their steps, oldest first; a line for each torn file.

    `choice` and `fingerprint` are those of the run's own data. The random encoder's step is None.
    """
    rows, torn = [], []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_bytes())
            for row in content.get("results", []) if isinstance(content, dict) else []:
                rows.append((str(row.get("time", "")), row_results(row, choice, fingerprint)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            torn.append(f"{file} is left out: {type(error).__name__} {' '.join(str(error).split())}")
    return [each for _, results in sorted(rows, key=lambda row: row[0]) for each in results], torn


def row_results(row: Mapping[str, Any], choice: str | None, fingerprint: str) -> list[tuple[Any, Result]]:
    """The numbers of one result, each with its step."""
    dataset, data, protocol = str(row["dataset"]), str(row.get("fingerprint")), str(row["protocol"])
    own, random = (dataset, data) == (choice, fingerprint), row.get("encoder") == "random"
    settings = settings_of(row.get("settings"), row["version"]) | ({} if own else {"data": data})
    prefix, suffix = "test/" if row["split"] == "test" else "", "" if own else f"@{dataset}"
    results = []
    for word, value in finite_numbers(row["values"]).items():
        name = f"{prefix}{protocol}/{word}"
        meaning = (row.get("metrics") or {}).get(word) or guessed_meaning(name)
        result = Result(name + suffix, "baseline" * random, value, meaning, settings, machine_of(row))
        results.append((None if random else row.get("step"), result))
    return results


def settings_of(node: Any, version: Any) -> dict[str, str]:
    """An evaluator's settings that can change its numbers, and its version. Null is as if absent."""
    leaves = flat({key: value for key, value in (node or {}).items() if key != "every"})
    leaves |= {key: value.rpartition(".")[2] for key, value in leaves.items() if key.endswith("_target_")}
    return {"version": str(version), **{key: value for key, value in leaves.items() if value != "null"}}


def finite_numbers(content: Any) -> dict[str, float]:
    items = content.items() if isinstance(content, Mapping) else ()
    real = {key: each for key, each in items if isinstance(each, (int, float)) and not isinstance(each, bool)}
    return {key: float(value) for key, value in real.items() if math.isfinite(value)}


def machine_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Device, commit, and the version of each library by its name."""
    versions = row.get("versions")
    facts = dict(versions) if isinstance(versions, dict) else {}
    facts |= {"device": row.get("device"), "commit": row.get("commit")}
    return {name: str(value) for name, value in facts.items() if value}


class Metrics(NamedTuple):
    """Metrics of several runs under names that mean one quantity each."""

    values: list[dict[str, float]]  # of each run
    meanings: dict[str, Meaning]  # by base name
    warnings: dict[str, list[str]]  # by base name: what was not measured alike


def name_metrics(runs: Sequence[Run]) -> Metrics:
    """Names for the results of runs: `probe/top1` on validation, `test/probe/top1`, `baseline/...`, `gain/...`.

    A way of measuring is an evaluator's version and settings, and the data if they are not the run's own. Of the same
    way the last result counts. If there are several, the plain name is the way that most runs have, and each way has
    `#` and six digits.
    """
    measured = [group_results(run.results) for run in runs]
    counts = Counter(key for by_way in measured for key, stages in by_way.items() if "" in stages)
    ways: dict[str, dict[str, list[tuple[Run, Result]]]] = defaultdict(dict)  # by name; the most common way first
    for (name, way), _ in counts.most_common():
        both = [(run, by_way.get((name, way), {})) for run, by_way in zip(runs, measured, strict=True)]
        ways[name][way] = [(run, stages[""]) for run, stages in both if "" in stages]
    metrics = Metrics([{} for _ in runs], {}, {})
    for values, by_way in zip(metrics.values, measured, strict=True):
        for (name, way), stages in by_way.items():
            own = {f"{stage}/{name}".lstrip("/"): each.value for stage, each in stages.items()}
            if {"", "baseline"} <= stages.keys():
                own[f"gain/{name}"] = stages[""].value - stages["baseline"].value
            values |= own if way == next(iter(ways[name]), way) else {}
            values |= {f"{each}#{way}": value for each, value in own.items()} if len(ways[name]) > 1 else {}
            metrics.meanings[name] = next(iter(stages.values())).meaning
    for name, each in ways.items():
        metrics.warnings[name] = [*way_warnings(name, each), *machine_warnings(name, next(iter(each.values()), []))]
    return metrics


def group_results(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """Results by name and way, then by stage; one that only repeats a number is that of before."""
    by_way: dict[tuple[str, str], dict[str, Result]] = defaultdict(dict)
    for each in results:
        stages = by_way[each.name, each.way]
        if each.stage not in stages or stages[each.stage].value != each.value:
            stages[each.stage] = each
    return by_way


def way_warnings(name: str, ways: Mapping[str, Sequence[tuple[Run, Result]]]) -> list[str]:
    """A line if a number was measured in several ways, with the settings in which they differ."""
    if len(ways) < 2:
        return []
    settings = {way: results[0][1].settings for way, results in ways.items()}
    every = dict.fromkeys(key for each in settings.values() for key in each)
    keys = [key for key in every if len({each.get(key) for each in settings.values()}) > 1]
    listed = [
        f"{name}#{way} ({plural(len(results))}: {', '.join(f'{key} {settings[way].get(key, ABSENT)}' for key in keys)})"
        for way, results in ways.items()
    ]
    return [f"{name} was measured in {len(ways)} ways, which are not mixed: {', '.join(listed)}; plain is the first"]


def machine_warnings(name: str, compared: Sequence[tuple[Run, Result]]) -> list[str]:
    """A line for each fact about the machine in which evaluations of one way differ."""
    machines = [machine_of(run.environment) if each.machine is None else each.machine for run, each in compared]
    facts = dict.fromkeys(fact for _, each in compared for fact in each.machine or ())
    counts = {fact: Counter(each.get(fact, "unknown") for each in machines) for fact in facts}
    return [
        f"{name}: {fact} of the evaluation differs: {list_counts(each)}; the comparison may not be fair"
        for fact, each in counts.items()
        if len(each) > 1
    ]


def base_name(metric: str | None) -> str:
    """A metric's name without its stage and its way: its meaning is known by that."""
    name = (metric or "").partition("#")[0]
    stage, _, rest = name.partition("/")
    return rest if stage in STAGES else name


def companions(metric: str | None) -> tuple[str | None, str | None]:
    """The names of a metric of the random encoder, and on the test split."""
    if metric is None or metric.partition("/")[0] in STAGES:
        return None, None
    return f"baseline/{metric}", None if metric.startswith("test/") else f"test/{metric}"
