"""Runs as they lie on a disk: found below folders, and read without loading what trained them."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.comparison.evaluated import Result, results
from ssl_runner.comparison.settings import choices_of, flat
from ssl_runner.config.migrate import migrated
from ssl_runner.run_folder.find import find, names
from ssl_runner.run_folder.layout import CONFIG, DIFF, ENVIRONMENT, EVALUATION, SUMMARY
from ssl_runner.run_folder.lock import held

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run folder says. `status` is that of its summary, or killed where it should be running and is not."""

    folder: Path
    name: str
    status: str
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    error: str | None = None
    health: str | None = None  # the doctor's last verdict on the features
    seed: int = 0
    batch_size: int = 0
    choices: Mapping[str, str] = field(default_factory=dict)  # by the path of their group: pretext, pretext.augment
    settings: Mapping[str, str] = field(default_factory=dict)  # by their whole key
    metrics: Mapping[str, float] = field(default_factory=dict)
    results: tuple[Result, ...] = ()  # of `ssl-runner evaluate`
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def images_seen(self) -> int:
        return self.step * self.batch_size


def load(places: Iterable[Path]) -> tuple[list[Run], list[str], list[str]]:
    """Every run below the places; what is wrong with the places; and which folders are left out, and why."""
    paths, problems = find(places)
    called = names(paths)
    runs, broken = [], []
    for real, path in paths.items():
        try:
            run, wrong = read(path, called[real])
            runs.append(run)
            broken += wrong
        except UNREADABLE as error:
            broken.append(f"{path} is left out: {' '.join(str(error).split())}")
    return runs, problems, broken


def read(folder: Path, name: str) -> tuple[Run, list[str]]:
    """A run folder's content, and which of its lesser files cannot be read.

    Raises ValueError, OSError or YAMLError where its config or summary is torn, foreign or absent.
    """
    with (folder / CONFIG).open("rb") as file:
        config = yaml.load(file, LOADER)
    if not isinstance(config, dict) or not {"length", "batch_size"} <= {*config}:
        raise ValueError("config.yaml is not that of a run")
    config = migrated(config, "config.yaml")
    summary = {"status": "running", "baseline": {}, "final": {}}  # of one that has not written it yet
    with contextlib.suppress(FileNotFoundError):
        summary = json.loads((folder / SUMMARY).read_bytes())
    if not isinstance(summary, dict) or not {"status", "baseline", "final"} <= {*summary}:
        raise ValueError("summary.json is not that of a run")
    broken = []
    environment: Any = {}
    try:
        environment = json.loads((folder / ENVIRONMENT).read_bytes())
    except FileNotFoundError:
        pass
    except UNREADABLE as error:
        broken.append(f"{folder / ENVIRONMENT} is not used: {' '.join(str(error).split())}")
    measured, torn = results(folder / EVALUATION)
    status = str(summary["status"])
    run = Run(
        folder=folder,
        name=name,
        status="killed" if status == "running" and not held(folder) else status,
        step=int(number(summary.get("step"))),
        steps=int(number(summary.get("steps"))),
        seconds=number(summary.get("seconds")),
        images_per_second=number(summary.get("images_per_second")),
        health=health.get("verdict") if isinstance(health := summary.get("health"), dict) else None,
        error=None if summary.get("error") is None else str(summary["error"]),
        seed=int(number(config.get("seed"))),
        batch_size=int(number(config["batch_size"])),
        choices=choices_of(config),
        settings=flat(config),
        metrics=metrics(summary),
        results=measured,
        environment={**environment, "changes": changes(folder)} if isinstance(environment, dict) else {},
    )
    return run, [*broken, *torn]


def metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary by the names that `--metric` knows: probe/top1 is the last one on validation."""
    stages = {
        stage: part for stage in ("baseline", "final", "best", "test") if isinstance(part := summary.get(stage), dict)
    }
    named = {
        (name if stage == "final" else f"{stage}/{name}"): float(value)
        for stage in ("final", "test", "baseline", "best")
        for name, value in stages.get(stage, {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
    gains = {
        f"gain/{name}": named[name] - named[f"baseline/{name}"]
        for name in stages.get("final", {})
        if name in named and f"baseline/{name}" in named
    }
    return named | gains


def number(value: Any) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if real else 0.0


def changes(folder: Path) -> str | None:
    """Four digits that two runs with the same uncommitted changes share; None where there were none."""
    try:
        return hashlib.blake2b((folder / DIFF).read_bytes(), digest_size=2).hexdigest()
    except OSError:
        return None
