"""summary.json: a run in one small file, written in the newest format and read in any."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import METRICS, SUMMARY
from ssl_runner.run_folder.metrics import FIRST, RAW, finite_numbers, is_count, is_number, new_name, read_rows, slashed

ENDED = ("completed", "stopped")  # statuses of what a sweep does not run again
RANKED_BY = ("probe/top1", "knn/top1")  # what runs are compared by if nobody says: the first that there is
# Ends of the names of numbers of which less is better; those of abx are errors, whatever their names.
SMALLER = ("loss", "error", "_share", "cross_entropy", "perplexity", "bits", "bits_a_byte", "ece")
# By name: {"better": "larger" | "smaller" | None, "unit": "share" | "number"}, of accuracies "majority" as well.
Meanings = Mapping[str, Mapping[str, Any]]


def summarise_numbers(folder: Path, meanings: Meanings, step: int) -> dict[str, Any]:
    """`baseline`, `final`, `best` and `metrics` of summary.json: rows of metrics.jsonl whose meaning is known.

    So is `raw`, of features without any network, if they were measured.
    """
    numbers: dict[str, list[tuple[int, float]]] = {}
    raw: dict[str, float] = {}
    for row in read_rows(folder / METRICS):
        for name, value in row.items():
            if name.startswith(RAW) and name.removeprefix(RAW) in meanings:
                raw[name.removeprefix(RAW)] = value
            if name in meanings:
                numbers.setdefault(name, []).append((row["step"], value))
    choose = {"larger": max, "smaller": min}
    return {
        **({"raw": raw} if raw else {}),
        "baseline": {name: values[0][1] for name, values in numbers.items() if values[0][0] == 0},
        "final": {name: values[-1][1] for name, values in numbers.items() if values[-1][0] == step},
        "best": {
            name: choose[better](value for _, value in values)
            for name, values in numbers.items()
            if (better := meanings[name]["better"]) and not name.startswith("test/")
        },
        "metrics": {name: dict(meanings[name]) for name in numbers},
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder, in today's names; empty if it is absent or torn. Each key has its type."""
    return typed_summary(migrated_summary(read_json(folder / SUMMARY)))


def typed_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without what has another type than a run writes, as in a damaged file."""
    typed = {key: TYPES[key](value) if key in TYPES else value for key, value in summary.items()}
    return {key: value for key, value in typed.items() if value is not None}


def finite_number(content: Any) -> float | None:
    return content if is_number(content) and math.isfinite(content) else None


def fitting(content: Any, fits: Callable[[Any], bool]) -> dict[str, Any]:
    """The entries of a mapping whose values fit; empty for anything else."""
    return {key: each for key, each in content.items() if fits(each)} if isinstance(content, Mapping) else {}


def is_meaning(content: Any) -> bool:
    """Whether it is what summary.json says of a number."""
    known = isinstance(content, Mapping) and content.get("unit") in ("share", "number")
    return known and content.get("better", "") in ("larger", "smaller", None) and is_number(content.get("majority", 0))


def is_health(content: Any) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get("verdict"), str)


TYPES: Mapping[str, Callable[[Any], Any]] = {  # the value to keep, or None
    **dict.fromkeys(("status", "error"), lambda each: each if isinstance(each, str) else None),
    **dict.fromkeys(("step", "steps"), lambda each: each if is_count(each) else None),
    **dict.fromkeys(("seconds", "samples_per_second", "peak_memory_mb"), finite_number),
    **dict.fromkeys(("raw", "baseline", "initial", "final", "best"), finite_numbers),
    "metrics": lambda each: fitting(each, is_meaning),
    "protocols": lambda each: fitting(each, lambda version: isinstance(version, Mapping)),
    "headlines": lambda each: [name for name in each if isinstance(name, str)] if isinstance(each, list) else None,
    "health": lambda each: each if is_health(each) else None,
}


def migrated_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of version 0.1, whose test numbers stood apart (`knn_top1`), in today's names; a newer one as it is."""
    summary = {new_name(str(key)): value for key, value in summary.items()}
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
    """Meaning of a number by its name, where no run says it: of runs of version 0.1, and before a sweep has any."""
    protocol, word = protocol_of(name), name.rpartition("/")[2]
    shares = re.match("(knn_|probe_|choice_)?top|(accuracy|nmi|trustworthiness|ece)$", word)
    unit = "share" if shares or word.endswith("_share") or protocol in ("few_label", "robustness", "abx") else "number"
    if protocol == "abx" or word.endswith(SMALLER):
        return {"better": "smaller", "unit": unit}
    better = unit == "share" or protocol == "factors" or word in ("ari", "health")
    return {"better": "larger" if better and not word.endswith("_interval") else None, "unit": unit}
