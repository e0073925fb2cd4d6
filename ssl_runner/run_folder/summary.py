"""summary.json: a run in one small file, written in the newest format and read in any."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import METRICS, SUMMARY
from ssl_runner.run_folder.metrics import FIRST, new_name, read_rows, slashed

# By name: {"better": "larger" | "smaller" | None, "unit": "share" | "number"}.
Meanings = Mapping[str, Mapping[str, Any]]


def summarise(
    status: str,
    folder: Path,
    meanings: Meanings,
    headlines: Sequence[str],
    protocols: Mapping[str, Mapping[str, Any]],
    *,
    seconds: float,
    step: int,
    steps: int,
    samples_per_second: float,
    peak_memory_mb: float,
    error: str | None = None,
    health: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of summary.json, from the folder's metrics.jsonl and the meanings of the numbers that were measured.

    `status` is one of running, completed, failed, interrupted, stopped (by a collapse). `headlines`: the numbers that
    stand for their evaluator. `protocols`: the version of each evaluator. `health`: the collapse detector's last
    verdict, None without one.
    """
    measured: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(folder / METRICS):
        for name, value in row.items():
            if name in meanings:
                measured.setdefault(name, []).append((row["step"], value))
    choose = {"larger": max, "smaller": min}
    return {
        "status": status,
        "step": step,
        "steps": steps,
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples_per_second, 1),
        "peak_memory_mb": round(peak_memory_mb, 1),
        "baseline": {name: values[0][1] for name, values in measured.items() if values[0][0] == 0},
        "final": {name: values[-1][1] for name, values in measured.items() if values[-1][0] == step},
        "best": {
            name: choose[better](value for _, value in values)
            for name, values in measured.items()
            if (better := meanings[name]["better"]) and not name.startswith("test/")
        },
        "headlines": list(headlines),
        "metrics": {name: dict(meanings[name]) for name in measured},
        "protocols": {name: dict(each) for name, each in protocols.items()},
        "health": health,
        "error": error,
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder, in today's names; empty if it is absent or torn."""
    return migrated_summary(read_json(folder / SUMMARY))


def migrated_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of version 0.1, whose test numbers stood apart (`knn_top1`), in today's names; a newer one as it is."""
    summary = {new_name(key): value for key, value in summary.items()}
    tested = summary.pop("test", None)
    if isinstance(tested, Mapping) and isinstance(summary.get("final"), Mapping):
        summary["final"] = {**summary["final"], **{f"test/{slashed(name)}": value for name, value in tested.items()}}
    if summary and "metrics" not in summary:
        parts = [part for each in ("baseline", "final") if isinstance(part := summary.get(each), Mapping)]
        summary["metrics"] = {name: guessed_meaning(name) for part in parts for name in part}
        summary["headlines"] = [name for name in summary["metrics"] if name.endswith("/top1") and name.count("/") == 1]
        measured = {protocol_of(name) for name in summary["metrics"]}
        summary["protocols"] = {name: {"version": version} for name, version in FIRST.items() if name in measured}
    return summary


def protocol_of(name: str) -> str:
    """The evaluator of a number: `knn` of `test/knn/top1`."""
    return name.removeprefix("test/").partition("/")[0]


def guessed_meaning(name: str) -> dict[str, Any]:
    """Meaning of a number by its name, for runs of version 0.1, which did not say it."""
    protocol, word = protocol_of(name), name.rpartition("/")[2]
    shares = re.match("(knn_|probe_|choice_)?top|(accuracy|nmi|trustworthiness)$", word)
    unit = "share" if shares or word.endswith("_share") or protocol in ("few_label", "robustness") else "number"
    if word.endswith(("loss", "error", "_share")):
        return {"better": "smaller", "unit": unit}
    better = unit == "share" or protocol == "factors" or word in ("ari", "health")
    return {"better": "larger" if better and not word.endswith("_interval") else None, "unit": unit}
