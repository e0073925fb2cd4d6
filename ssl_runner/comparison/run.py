"""Runs to be compared: the content of their folders, and one name for each quantity that was measured on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ssl_runner.run_folder.atomic import digest
from ssl_runner.run_folder.gain import gain_of

ABSENT = "-"  # a setting that a run does not have
# Before a name: of raw features, of the random encoder, the best, how much better the last is than the random one's.
STAGES = ("raw", "baseline", "best", "gain")
Meaning = Mapping[str, Any]  # {"better": "larger" | "smaller" | None, "unit": "share" | "number"}


class Result(NamedTuple):
    """A number that was measured once, and what it depends on."""

    name: str  # test/probe/top1, with @dataset if that is not the run's own
    stage: str  # raw, baseline, best, or "" for the trained encoder
    value: float
    meaning: Meaning
    settings: Mapping[str, str]  # of the evaluator, and its version
    machine: Mapping[str, str] | None = None  # of `ssl-runner evaluate`; None in training
    step: int | None = None  # of `ssl-runner evaluate`, unless the encoder is random

    @property
    def way(self) -> str:
        """Six digits that two results share if they were measured alike."""
        return digest(sorted(self.settings.items()), 3)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The content of a run folder.

    `status` is that of its summary, `killed` if no process runs it any more, or `not begun` without a summary.
    """

    folder: Path
    name: str
    status: str
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    samples_per_second: float = 0.0
    error: str | None = None
    health: str | None = None  # the collapse detector's last verdict
    seed: int = 0
    batch_size: int = 0
    label: str | None = None  # its config's `name`
    tags: tuple[str, ...] = ()
    notes: str | None = None
    begun: float = 0.0  # in seconds since 1970
    choices: Mapping[str, str] = field(default_factory=dict)  # by the path of their group: pretext, pretext.augment
    settings: Mapping[str, str] = field(default_factory=dict)  # by their whole key
    results: tuple[Result, ...] = ()  # of training, then of `ssl-runner evaluate` from old to new
    early: int = 0  # results of `ssl-runner evaluate` that are of an earlier step
    headlines: tuple[str, ...] = ()  # the numbers that stand for their evaluator
    metrics: Mapping[str, float] = field(default_factory=dict)  # results by name, see name_metrics
    environment: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # other_data, extended

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def samples_seen(self) -> int:
        return self.step * self.batch_size

    @cached_property
    def traits(self) -> Mapping[str, str]:
        """Choices, and settings but for the classes that a choice implies. Null is as absent as in older versions."""
        settings = {key: each for key, each in self.settings.items() if not key.endswith("_target_")}
        return {**self.choices, **{key: ABSENT if each == "null" else each for key, each in settings.items()}}


def device_of(environment: Mapping[str, Any]) -> str | None:
    """The device as today's runs say it; older ones have written "1 threads"."""
    device = environment.get("device")
    return str(device).replace(", 1 threads", ", 1 thread") if device else None


def machine_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Device, commit, and the version of each library by its name."""
    versions = environment.get("versions")
    facts = dict(versions) if isinstance(versions, dict) else {}
    facts |= {"device": device_of(environment), "commit": environment.get("commit")}
    return {name: str(value) for name, value in facts.items() if value}


Ways = Mapping[str, Sequence[tuple[Run, Result]]]  # results of trained encoders by way, the most common way first
Stages = dict[str, Result]  # by stage: all that one run has of a number that was measured in one way


def name_metrics(runs: Sequence[Run]) -> tuple[list[dict[str, float]], dict[str, Meaning], Mapping[str, Ways]]:
    """Metrics of each run by name, and by base name their meanings and the ways in which they were measured.

    Names are `probe/top1` on validation, `test/probe/top1`, `raw/...`, `baseline/...`, `gain/...`. A way of measuring
    is an evaluator's version and settings, and the data if they are not the run's own. If there are several, the plain
    name is the way that most runs have, and each way has `#` and six digits.
    """
    metrics: list[dict[str, float]] = [{} for _ in runs]
    meanings, ways = dict[str, Meaning](), dict[str, Ways]()
    for name, by_way in group_results(runs).items():
        trained = {
            way: [(runs[number], stages[""]) for number, stages in by_run.items() if "" in stages]
            for way, by_run in by_way.items()
        }
        commonest = sorted(trained, key=lambda way: -len(trained[way]))
        ways[name] = {way: trained[way] for way in commonest if trained[way]}
        plain = next(iter(ways[name]), None)  # None if no trained encoder was measured
        for way, by_run in by_way.items():
            for number, stages in by_run.items():
                values = name_stages(name, stages)
                if plain in (way, None):
                    metrics[number] |= values
                if len(ways[name]) > 1:
                    metrics[number] |= {f"{each}#{way}": value for each, value in values.items()}
                meanings[name] = next(iter(stages.values())).meaning
    return metrics, meanings, ways


def group_results(runs: Sequence[Run]) -> dict[str, dict[str, dict[int, Stages]]]:
    """Results by name, by way of measuring, by the number of their run, and by stage. Of several the last counts."""
    groups: dict[str, dict[str, dict[int, Stages]]] = {}
    for number, run in enumerate(runs):
        for each in run.results:
            stages = groups.setdefault(each.name, {}).setdefault(each.way, {}).setdefault(number, {})
            if each.stage not in stages or stages[each.stage].value != each.value:  # it is not only repeated
                stages[each.stage] = each
    return groups


def name_stages(name: str, stages: Stages) -> dict[str, float]:
    """`probe/top1`, `baseline/probe/top1` and so on, and the gain of the trained encoder over the random one."""
    values = {f"{stage}/{name}".lstrip("/"): each.value for stage, each in stages.items()}
    if {"", "baseline"} <= stages.keys():
        last, first = stages[""], stages["baseline"]
        values[f"gain/{name}"] = gain_of(last.value, first.value, last.meaning.get("better"))
    return values


def better_of(metric: str | None, meanings: Mapping[str, Meaning]) -> str | None:
    """Whether larger or smaller is better of a metric; of a gain it is larger. None if neither is, or nobody knows."""
    better = meanings.get(base_name(metric), {}).get("better")
    return "larger" if better and (metric or "").startswith("gain/") else better


def base_name(metric: str | None) -> str:
    """A metric's name without its stage and its way: its meaning is known by that."""
    name = (metric or "").partition("#")[0]
    stage, _, rest = name.partition("/")
    return rest if stage in STAGES else name


def companions(metric: str | None) -> tuple[str | None, str | None, str | None]:
    """The names of a metric of raw features, of the random encoder, and on the test split."""
    if metric is None or metric.partition("/")[0] in STAGES:
        return None, None, None
    return f"raw/{metric}", f"baseline/{metric}", None if metric.startswith("test/") else f"test/{metric}"
