"""Runs read from their folders, without importing torch."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_runner.comparison.run import Result, Run, machine_of
from ssl_runner.comparison.settings import choices_of, flat
from ssl_runner.config import files
from ssl_runner.duration import Phase
from ssl_runner.run_folder.atomic import read_file
from ssl_runner.run_folder.find import find
from ssl_runner.run_folder.layout import CONFIG, DIFF, ENVIRONMENT, EVALUATION, GROUPS, METRICS, PROJECT_DIFF, SUMMARY
from ssl_runner.run_folder.lock import held
from ssl_runner.run_folder.metrics import finite_numbers, read_rows
from ssl_runner.run_folder.origin import begun_at, entries, recorded_fingerprint
from ssl_runner.run_folder.summary import (
    fitting,
    guessed_meaning,
    is_meaning,
    migrated_summary,
    protocol_of,
    typed_summary,
)

Read = Callable[[Path, str, list[str]], Run]


def load_runs(places: Iterable[Path], read: Read | None = None) -> tuple[list[Run], list[str], list[str]]:
    """Every run below the places; what is wrong with the places; and which files are left out, and why."""
    paths, problems = find(places)
    runs, broken = [], list[str]()
    with Phase("reading", len(paths), "runs") as phase:
        for name, path in paths.items():
            with note_failure(path, broken):
                runs.append((read or read_run)(path, name, broken))
            phase.advance()
    return runs, problems, broken


@contextlib.contextmanager
def note_failure(path: Path, broken: list[str]) -> Iterator[None]:
    """Goes on after a file that is torn or foreign, with a line on it in `broken`."""
    try:
        yield
    except Exception as error:  # foreign content can raise anything
        known = isinstance(error, OSError | ValueError)
        reason = str(error) if known else f"its content is not that of a run ({type(error).__name__}: {error})"
        broken.append(f"{path} is left out: {' '.join(reason.split())}")


def read_run(folder: Path, name: str, broken: list[str]) -> Run:
    """The content of a run folder. Adds a line to `broken` for each file that can be done without and cannot be read.

    Raises anything if the config or the summary is torn, foreign or absent.
    """
    config = require_keys(files.read(folder / CONFIG), CONFIG, (*GROUPS, "length", "batch_size", "choices"))
    summary: dict[str, Any] = {"status": "running", "baseline": {}, "final": {}}  # until it is written
    if (folder / SUMMARY).exists():
        read = migrated_summary(require_keys(load_json(folder / SUMMARY), SUMMARY, ("status", "baseline", "final")))
        summary = require_keys(typed_summary(read), SUMMARY, ("status",))
        if wrong := [key for key, value in read.items() if summary.get(key) != value]:
            broken.append(f"{folder / SUMMARY}: {', '.join(wrong)} left out: not what a run writes there")
    environment = read_environment(folder, broken)
    if isinstance(init := config.get("init"), dict):  # where the weights lie is no part of a result
        config["init"] = str(init.get("digest"))[:8]
    choices, chosen = choices_of(config), finite_numbers(config)
    step, status = summary.get("step", 0), summary["status"]
    if status == "running" and not held(folder):
        status = "killed" if (folder / SUMMARY).exists() else "not begun"
    elif status == "running":  # a summary is not written at each log
        step = max((row["step"] for row in read_rows(folder / METRICS)), default=step)
    written = (folder / (ENVIRONMENT if environment else CONFIG)).stat().st_mtime  # in a copy, when it was copied
    own = (choices.get("dataset"), str(recorded_fingerprint(summary, environment)))
    evaluated = evaluation_results(folder, broken, own)
    final = [each for each in evaluated if each.step in (None, step)]
    return Run(
        folder=folder,
        name=name,
        status=status,
        step=step,
        steps=summary.get("steps", 0),
        seconds=summary.get("seconds", 0.0),
        samples_per_second=summary.get("samples_per_second", 0.0),
        health=summary.get("health", {}).get("verdict"),
        error=summary.get("error"),
        seed=int(chosen.get("seed", 0)),
        batch_size=int(chosen.get("batch_size", 0)),
        begun=begun_at(environment) or written,
        **read_labels(config),
        choices=choices,
        settings=flat(config),
        results=(*training_results(summary, config), *final),
        early=len(evaluated) - len(final),
        headlines=tuple(summary.get("headlines", ())),
        environment=environment,
        changes={name: listed for name in ("extended", "other_data") if (listed := entries(summary.get(name)))},
    )


def read_labels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name, tags and notes that people gave a run, as Run has them."""
    tags, texts = config.get("tags") or (), {"label": config.get("name"), "notes": config.get("notes")}
    tags = [tags] if isinstance(tags, str) else tags if isinstance(tags, list) else ()
    return {"tags": tuple(map(str, tags)), **{key: None if each is None else str(each) for key, each in texts.items()}}


def load_json(path: Path) -> Any:
    """The content of a JSON file, in which NaN, Infinity and 1e400 become text. Raises OSError, or ValueError."""

    def finite(text: str) -> float | str:
        return number if math.isfinite(number := float(text)) else text

    try:
        return json.loads(read_file(path), parse_float=finite, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is torn or no JSON ({error})") from None


def require_keys(content: Any, file: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(content, dict) or not content.keys() >= {*keys}:
        raise ValueError(f"{file} is not that of a run")
    return content


def read_environment(folder: Path, broken: list[str]) -> dict[str, Any]:
    """environment.json, with `changes`: four digits for uncommitted changes, of our code and of the user's."""
    environment: dict[str, Any] = {}
    if (folder / ENVIRONMENT).exists():
        with note_failure(folder / ENVIRONMENT, broken):
            environment = require_keys(load_json(folder / ENVIRONMENT), ENVIRONMENT, ())
            own = environment.get("project")
            for code, diff in ((environment, DIFF), (own if isinstance(own, dict) else {}, PROJECT_DIFF)):
                if (folder / diff).exists():
                    code["changes"] = hashlib.blake2b(read_file(folder / diff), digest_size=2).hexdigest()
    return environment


def training_results(summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[Result]:
    """The numbers of a summary in today's names."""
    evaluators = config.get("evaluator") or {}
    meanings, protocols = summary.get("metrics", {}), summary.get("protocols", {})
    results = []
    for part, stage in (("raw", "raw"), ("baseline", "baseline"), ("best", "best"), ("final", "")):
        for name, value in summary.get(part, {}).items():
            protocol = protocol_of(name)
            settings = settings_of(evaluators.get(protocol), protocols.get(protocol, {}).get("version"))
            results.append(Result(name, stage, value, meanings.get(name) or guessed_meaning(name), settings))
    return results


def evaluation_results(folder: Path, broken: list[str], own: tuple[str | None, str]) -> list[Result]:
    """Numbers of `ssl-runner evaluate`, oldest first. `own`: choice and fingerprint of the run's own data."""
    rows = []
    for file in sorted((folder / EVALUATION).glob("*.json")):
        with note_failure(file, broken):
            for row in require_keys(load_json(file), file.name, ("results",))["results"]:
                rows.append((str(row.get("time", "")), row_results(row, own)))
    return [each for _, results in sorted(rows, key=lambda row: row[0]) for each in results]


def row_results(row: Mapping[str, Any], own: tuple[str | None, str]) -> list[Result]:
    dataset, data = str(row["dataset"]), str(row.get("fingerprint"))
    other = (dataset, data) != own
    settings = settings_of(row.get("settings"), row["version"]) | ({"data": data} if other else {})
    stage, step = ("baseline", None) if row.get("encoder") == "random" else ("", row.get("step"))
    results = []
    meanings = fitting(row.get("metrics"), is_meaning)
    for word, value in finite_numbers(row["values"]).items():
        name = f"{'test/' if row['split'] == 'test' else ''}{row['protocol']}/{word}"
        meaning = meanings.get(word) or guessed_meaning(name)
        name += f"@{dataset}" if other else ""
        results.append(Result(name, stage, value, meaning, settings, machine_of(row), step))
    return results


def settings_of(node: Any, version: Any) -> dict[str, str]:
    """An evaluator's settings that can change its numbers, and its version. Null is as if absent."""
    leaves = flat({key: value for key, value in (node or {}).items() if key != "every"})
    leaves |= {key: value.rpartition(".")[2] for key, value in leaves.items() if key.endswith("_target_")}
    return {"version": str(version), **{key: value for key, value in leaves.items() if value != "null"}}
