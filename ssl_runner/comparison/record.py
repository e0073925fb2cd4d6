"""Runs read from their folders, without loading what trained them."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.comparison.metrics import Result, evaluation_results, finite_numbers, training_results
from ssl_runner.comparison.settings import choices_of, flat
from ssl_runner.config.migrate import migrated
from ssl_runner.run_folder.find import find, names
from ssl_runner.run_folder.layout import CONFIG, DIFF, ENVIRONMENT, EVALUATION, SUMMARY
from ssl_runner.run_folder.lock import held
from ssl_runner.run_folder.summary import migrated_summary

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast if libyaml is there
UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The content of a run folder. `status` is that of its summary, or killed if no process runs it any more."""

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
    choices: Mapping[str, str] = field(default_factory=dict)  # by the path of their group: pretext, pretext.augment
    settings: Mapping[str, str] = field(default_factory=dict)  # by their whole key
    results: tuple[Result, ...] = ()  # of training, then of `ssl-runner evaluate` from old to new
    early: int = 0  # results of `ssl-runner evaluate` that are of an earlier step
    headlines: tuple[str, ...] = ()  # the numbers that stand for their evaluator
    metrics: Mapping[str, float] = field(default_factory=dict)  # results by name, see metrics.name_metrics
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def samples_seen(self) -> int:
        return self.step * self.batch_size


def load_runs(places: Iterable[Path]) -> tuple[list[Run], list[str], list[str]]:
    """Every run below the places; what is wrong with the places; and which folders are left out, and why."""
    paths, problems = find(places)
    run_names = names(paths)
    runs, broken = [], []
    for real, path in paths.items():
        try:
            run, torn = read_run(path, run_names[real])
            runs.append(run)
            broken += torn
        except UNREADABLE as error:
            broken.append(f"{path} is left out: {' '.join(str(error).split())}")
    return runs, problems, broken


def read_run(folder: Path, name: str) -> tuple[Run, list[str]]:
    """A run folder's content, and which of its lesser files cannot be read.

    Raises ValueError, OSError or YAMLError if its config or summary is torn, foreign or absent.
    """
    with (folder / CONFIG).open("rb") as file:
        config = yaml.load(file, LOADER)
    if not isinstance(config, dict) or not {"length", "batch_size"} <= {*config}:
        raise ValueError("config.yaml is not that of a run")
    config = migrated(config, "config.yaml")
    summary = {"status": "running", "baseline": {}, "final": {}}  # until it is written
    with contextlib.suppress(FileNotFoundError):
        summary = json.loads((folder / SUMMARY).read_bytes())
    if not isinstance(summary, dict) or not {"status", "baseline", "final"} <= {*summary}:
        raise ValueError("summary.json is not that of a run")
    summary = migrated_summary(summary)
    environment, broken = read_environment(folder)
    choices, numbers = choices_of(config), finite_numbers(summary)
    evaluated, torn = evaluation_results(folder / EVALUATION, choices.get("dataset"), str(environment.get("dataset")))
    step, status, health = int(numbers.get("step", 0)), str(summary["status"]), summary.get("health")
    final = [result for at, result in evaluated if at in (None, step)]
    run = Run(
        folder=folder,
        name=name,
        status="killed" if status == "running" and not held(folder) else status,
        step=step,
        steps=int(numbers.get("steps", 0)),
        seconds=numbers.get("seconds", 0.0),
        samples_per_second=numbers.get("samples_per_second", 0.0),
        health=health.get("verdict") if isinstance(health, dict) else None,
        error=None if summary.get("error") is None else str(summary["error"]),
        seed=int(finite_numbers(config).get("seed", 0)),
        batch_size=int(finite_numbers(config).get("batch_size", 0)),
        choices=choices,
        settings=flat(config),
        results=(*training_results(summary, config), *final),
        early=len(evaluated) - len(final),
        headlines=tuple(summary.get("headlines") or ()),
        environment=environment,
    )
    return run, [*broken, *torn]


def read_environment(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """environment.json, with four digits that runs of the same uncommitted changes share; a line if it is torn."""
    try:
        environment = json.loads((folder / ENVIRONMENT).read_bytes())
    except FileNotFoundError:
        return {}, []
    except UNREADABLE as error:
        return {}, [f"{folder / ENVIRONMENT} is not used: {' '.join(str(error).split())}"]
    if not isinstance(environment, dict):
        return {}, []
    with contextlib.suppress(OSError):
        environment["changes"] = hashlib.blake2b((folder / DIFF).read_bytes(), digest_size=2).hexdigest()
    return environment, []
