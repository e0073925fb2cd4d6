"""Results of `ssl-runner evaluate`, kept in RUN/evaluation with all that they depend on."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_runner.contract import Metric
from ssl_runner.run_folder.atomic import HALVES, digest, read_json, remove_abandoned, write_json
from ssl_runner.run_folder.layout import ENVIRONMENT, EVALUATION, SUMMARY
from ssl_runner.run_folder.lock import held, locked
from ssl_runner.run_folder.metrics import accuracy_names, finite_numbers
from ssl_runner.run_folder.origin import recorded_fingerprint

# Keys that identify a result: one that is measured again replaces the one before.
IDENTITY = ("protocol", "version", "settings_hash", "dataset", "fingerprint", "split", "seed", "encoder", "step")
SUFFIX = ".evaluation"  # of TensorBoard's events of results
DRAWN = f"events.out.tfevents.*{SUFFIX}"


def result_folder(folder: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of a result's files (pictures, lists, TensorBoard's events), which no other result has."""
    return folder / identity["protocol"] / f"{identity['split']}-{digest({k: identity[k] for k in IDENTITY}, 3)}"


def meaning_of(metric: Metric) -> dict[str, Any]:
    """What a number means, for files."""
    meaning = {"better": metric.better, "unit": metric.unit}
    return meaning | ({} if metric.majority is None else {"majority": metric.majority})


def describe_metrics(metrics: Mapping[str, Metric], headline: str, seconds: float) -> dict[str, Any]:
    """Numbers, what they mean, and those of each class. One that is not finite is left out: JSON has none."""
    finite = {name: float(each.value) for name, each in metrics.items() if math.isfinite(each.value)}
    result: dict[str, Any] = {"value": finite.get(headline), "values": finite}
    result["metrics"] = {name: meaning_of(metrics[name]) for name in finite}
    if classes := {name: dict(metrics[name].classes) for name in finite if metrics[name].classes}:
        result["classes"] = classes
    return result | {"seconds": round(seconds, 2), "time": time.strftime("%Y-%m-%dT%H:%M:%S")}


def record_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Adds a result to `folder/<protocol>.json`, and to TensorBoard. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['protocol']}.json"
    with locked(folder, wait=True):
        before = read_json(path).get("results", [])
        if path.exists() and not (isinstance(before, list) and before and all(isinstance(x, dict) for x in before)):
            path.rename(path.with_suffix(".json.torn"))  # it may still be wanted
            before = []
        others = [each for each in before if any(each.get(key) != result[key] for key in IDENTITY)]
        write_json(path, {"protocol": result["protocol"], "results": [*others, dict(result)]})
    files = result_folder(folder, result)
    remove_abandoned(files, HALVES)
    draw_results(folder)


def draw_results(folder: Path) -> None:
    """Shows the results in a folder to TensorBoard, under the names that training and compare give them.

    Those of a run's last step belong to the run itself: in HPARAMS they are in its row, and in the columns of all runs.
    Others, and those of a run that still writes its own events, are a run of the name of the folder.
    """
    run = folder.parent
    summary = read_json(run / SUMMARY) if folder.name == EVALUATION else {}
    known = recorded_fingerprint(summary, read_json(run / ENVIRONMENT))
    place = run if summary and not held(run) else folder
    points: dict[Path, dict[tuple[int, str], float]] = {place: {}, folder: {}}
    for row in sorted(all_results(folder), key=lambda row: str(row.get("time", ""))):
        step, is_random = row.get("step"), row.get("encoder") == "random"
        prefix = "baseline/" * is_random + "test/" * (row.get("split") == "test")
        other = f"@{row.get('dataset')}" if known not in (None, row.get("fingerprint")) else ""
        own = points[place if is_random or step in (None, summary.get("step")) else folder]
        for name, value in finite_numbers(row.get("values")).items():
            own[step or 0, f"{prefix}{row.get('protocol')}/{name}{other}"] = value
    for old in (*place.glob(DRAWN), *folder.glob(DRAWN), *folder.glob("*/*/events.out.tfevents.*.numbers")):
        old.unlink()
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    for where, numbers in points.items():
        if numbers:
            with SummaryWriter(str(where), filename_suffix=SUFFIX) as events:
                for (step, name), value in sorted(numbers.items()):
                    for each in (name, *accuracy_names(name)):
                        events.add_scalar(each, value, step)


def all_results(folder: Path) -> list[Mapping[str, Any]]:
    """Every result in a folder's files; what is torn or foreign is left out."""
    contents = [read_json(file).get("results") for file in sorted(folder.glob("*.json"))]
    return [row for rows in contents if isinstance(rows, list) for row in rows if isinstance(row, dict)]
