"""Runs read from their folders, without loading what trained them."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.comparison.run import Result, Run, machine_of
from ssl_runner.comparison.settings import choices_of, flat
from ssl_runner.config.migrate import migrated
from ssl_runner.run_folder.find import find
from ssl_runner.run_folder.layout import CONFIG, DIFF, ENVIRONMENT, EVALUATION, SUMMARY
from ssl_runner.run_folder.lock import held
from ssl_runner.run_folder.origin import entries, recorded_fingerprint
from ssl_runner.run_folder.summary import guessed_meaning, migrated_summary, protocol_of

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast if libyaml is there


def load_runs(places: Iterable[Path]) -> tuple[list[Run], list[str], list[str]]:
    """Every run below the places; what is wrong with the places; and which files are left out, and why."""
    paths, problems = find(places)
    runs, broken = [], list[str]()
    for name, path in paths.items():
        with note_failure(path, broken):
            runs.append(read_run(path, name, broken))
    return runs, problems, broken


@contextlib.contextmanager
def note_failure(path: Path, broken: list[str]) -> Iterator[None]:
    """Goes on after a file that is torn or foreign, with a line on it in `broken`."""
    try:
        yield
    except Exception as error:  # foreign content can raise anything
        reason = str(error) if isinstance(error, OSError | ValueError | yaml.YAMLError) else repr(error)
        broken.append(f"{path} is left out: {' '.join(reason.split())}")


def read_run(folder: Path, name: str, broken: list[str]) -> Run:
    """A run folder's content; a line in `broken` for each of its lesser files that cannot be read.

    Raises whatever a config or a summary that is torn, foreign or absent may raise.
    """
    with (folder / CONFIG).open("rb") as file:
        config = yaml.load(file, LOADER)
    config = migrated(require_keys(config, CONFIG, ("length", "batch_size")), CONFIG)
    summary: dict[str, Any] = {"status": "running", "baseline": {}, "final": {}}  # until it is written
    if (folder / SUMMARY).exists():
        summary = json.loads((folder / SUMMARY).read_bytes())
    summary = migrated_summary(require_keys(summary, SUMMARY, ("status", "baseline", "final")))
    environment = read_environment(folder, broken)
    if isinstance(init := config.get("init"), dict):  # where the weights lie is no part of a result
        config["init"] = str(init.get("digest"))[:8]
    choices, numbers, chosen = choices_of(config), finite_numbers(summary), finite_numbers(config)
    step, status, error = int(numbers.get("step", 0)), str(summary["status"]), summary.get("error")
    evaluated = evaluation_results(
        folder, broken, (choices.get("dataset"), str(recorded_fingerprint(summary, environment)))
    )
    final = [each for each in evaluated if each.step in (None, step)]
    return Run(
        folder=folder,
        name=name,
        status="killed" if status == "running" and not held(folder) else status,
        step=step,
        steps=int(numbers.get("steps", 0)),
        seconds=numbers.get("seconds", 0.0),
        samples_per_second=numbers.get("samples_per_second", 0.0),
        health=health.get("verdict") if isinstance(health := summary.get("health"), dict) else None,
        error=None if error is None else str(error),
        seed=int(chosen.get("seed", 0)),
        batch_size=int(chosen.get("batch_size", 0)),
        choices=choices,
        settings=flat(config),
        results=(*training_results(summary, config), *final),
        early=len(evaluated) - len(final),
        headlines=tuple(summary.get("headlines") or ()),
        environment=environment,
        changes={name: listed for name in ("extended", "other_data") if (listed := entries(summary.get(name)))},
    )


def require_keys(content: Any, file: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(content, dict) or not content.keys() >= {*keys}:
        raise ValueError(f"{file} is not that of a run")
    return content


def read_environment(folder: Path, broken: list[str]) -> dict[str, Any]:
    """environment.json, with four digits that runs of the same uncommitted changes share."""
    environment: dict[str, Any] = {}
    if (folder / ENVIRONMENT).exists():
        with note_failure(folder / ENVIRONMENT, broken):
            content = json.loads((folder / ENVIRONMENT).read_bytes())
            environment = content if isinstance(content, dict) else {}
            if (folder / DIFF).exists():
                environment["changes"] = hashlib.blake2b((folder / DIFF).read_bytes(), digest_size=2).hexdigest()
    return environment


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


def evaluation_results(folder: Path, broken: list[str], own: tuple[str | None, str]) -> list[Result]:
    """Numbers of `ssl-runner evaluate`, oldest first. `own`: choice and fingerprint of the run's own data."""
    rows = []
    for file in sorted((folder / EVALUATION).glob("*.json")):
        with note_failure(file, broken):
            content = json.loads(file.read_bytes())
            for row in content.get("results", []) if isinstance(content, dict) else []:
                rows.append((str(row.get("time", "")), row_results(row, own)))
    return [each for _, results in sorted(rows, key=lambda row: row[0]) for each in results]


def row_results(row: Mapping[str, Any], own: tuple[str | None, str]) -> list[Result]:
    dataset, data = str(row["dataset"]), str(row.get("fingerprint"))
    other = (dataset, data) != own
    settings = settings_of(row.get("settings"), row["version"]) | ({"data": data} if other else {})
    stage, step = ("baseline", None) if row.get("encoder") == "random" else ("", row.get("step"))
    results = []
    for word, value in finite_numbers(row["values"]).items():
        name = f"{'test/' if row['split'] == 'test' else ''}{row['protocol']}/{word}"
        meaning = (row.get("metrics") or {}).get(word) or guessed_meaning(name)
        name += f"@{dataset}" if other else ""
        results.append(Result(name, stage, value, meaning, settings, machine_of(row), step))
    return results


def settings_of(node: Any, version: Any) -> dict[str, str]:
    """An evaluator's settings that can change its numbers, and its version. Null is as if absent."""
    leaves = flat({key: value for key, value in (node or {}).items() if key != "every"})
    leaves |= {key: value.rpartition(".")[2] for key, value in leaves.items() if key.endswith("_target_")}
    return {"version": str(version), **{key: value for key, value in leaves.items() if value != "null"}}


def finite_numbers(content: Any) -> dict[str, float]:
    items = content.items() if isinstance(content, Mapping) else ()
    real = {key: each for key, each in items if isinstance(each, int | float) and not isinstance(each, bool)}
    return {key: float(value) for key, value in real.items() if math.isfinite(value)}
