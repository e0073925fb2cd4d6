"""metrics.jsonl: the rows that a run has logged, in today's names."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import at_once

# Evaluators of version 0.1 and their versions then. Their numbers of the test split were written test/knn_top1.
FIRST = {
    **dict.fromkeys(("knn", "cluster", "projector"), 1),
    **dict.fromkeys(("probe", "few_label", "finetune", "geometry", "factors", "robustness", "leakage"), 2),
}
RAW = "raw/"  # before the name of a number: of features without any network
LONGEST = 2**20  # bytes of a line of a log
RENAMED = {f"{prefix}images_per_second": f"{prefix}samples_per_second" for prefix in ("", "speed/")}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a line that is torn by a crash or not of numbers is left out. No file: no rows.

    Raises OSError if it cannot be read.
    """
    rows = []
    for line in read_lines(path) if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = isinstance(row, dict) and all(map(is_number, row.values()))
        if numbers and is_count(row.get("step")) and row.get("time", -1) >= 0:
            rows.append({new_name(name): value for name, value in row.items()})
    return rows


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of a file, whatever its size; a longer one than any log's, as of the zeros of a sparse file, ends it."""
    with open(path, "rb", opener=at_once) as file:
        while (line := file.readline(LONGEST)) and len(line) < LONGEST:
            yield line


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that a float can hold, or NaN."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and not abs(value) > sys.float_info.max


def is_count(value: Any) -> bool:
    """Whether a JSON value can be a step or a number of them."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def finite_numbers(content: Any) -> dict[str, float]:
    """What is a finite number of a mapping's values; empty for anything else."""
    pairs = content.items() if isinstance(content, Mapping) else ()
    return {key: value for key, value in pairs if is_number(value) and value == value}


def new_name(name: str) -> str:
    """The name that a number has today: test/knn/top1 for test/knn_top1 of version 0.1."""
    if name.startswith("test/") and name.count("/") == 1:
        return f"test/{slashed(name.removeprefix('test/'))}"
    return RENAMED.get(name, name)


def accuracy_names(name: str) -> list[str]:
    """The name under which an accuracy stands in TensorBoard once more, so that it comes first: accuracy/test_knn."""
    accuracy = name.endswith("/top1") and not name.startswith(("train/", "baseline/", RAW))
    return [f"accuracy/{name[:-5].replace('/', '_')}"] if accuracy else []


def slashed(name: str) -> str:
    """knn/top1 for knn_top1."""
    evaluator = next((each for each in FIRST if name.startswith(f"{each}_")), name.partition("_")[0])
    return f"{evaluator}/{name.removeprefix(evaluator).lstrip('_')}" if name != evaluator else name
