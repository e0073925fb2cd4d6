"""Results of `ssl-runner evaluate`, kept in RUN/evaluation with all that they depend on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.run_folder.atomic import HALVES, digest, read_json, remove_abandoned, write, write_json
from ssl_runner.run_folder.layout import CONFUSION
from ssl_runner.run_folder.lock import locked

if TYPE_CHECKING:  # which would import torch, and compare reads results without it
    from ssl_runner.contract import Metric

# Keys that identify a result: one that is measured again replaces the one before.
IDENTITY = ("protocol", "version", "settings_hash", "dataset", "fingerprint", "split", "seed", "encoder", "step")


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


def write_confusion_rows(folder: Path, number: str, step: int | None, accuracy: Metric) -> None:
    """Writes the confusion matrix of an accuracy, the `number` of its evaluator, into a result's folder.

    Rows of each class, from top to bottom, by the class that was predicted, from left to right.
    """
    content = {"number": number, "step": step, "classes": [*accuracy.classes], "rows": [*map(list, accuracy.confusion)]}
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / CONFUSION, json.dumps(content, separators=(",", ":")) + "\n")


def record_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Adds a result to `folder/<protocol>.json`, from where compare reads it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['protocol']}.json"
    with locked(folder, wait=True):
        before = read_json(path).get("results", [])
        if path.exists() and not (isinstance(before, list) and before and all(isinstance(x, dict) for x in before)):
            path.rename(path.with_suffix(".json.torn"))  # it may still be wanted
            before = []
        others = [each for each in before if any(each.get(key) != result[key] for key in IDENTITY)]
        write_json(path, {"protocol": result["protocol"], "results": [*others, dict(result)]})
    remove_abandoned(result_folder(folder, result), HALVES)
