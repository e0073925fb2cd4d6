"""metrics.jsonl: the rows that a run has logged, in today's names."""

import json
from pathlib import Path
from typing import Any

# Evaluators of version 0.1 and their versions then. Their numbers of the test split were written test/knn_top1.
FIRST = {
    **dict.fromkeys(("knn", "cluster", "projector"), 1),
    **dict.fromkeys(("probe", "few_label", "finetune", "geometry", "factors", "robustness", "leakage"), 2),
}
RENAMED = {f"{prefix}images_per_second": f"{prefix}samples_per_second" for prefix in ("", "speed/")}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a line that is torn by a crash or not of numbers is left out. No file: no rows."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
        if numbers and {"step", "time"} <= row.keys():
            rows.append({new_name(name): value for name, value in row.items()})
    return rows


def new_name(name: str) -> str:
    """The name that a number has today: test/knn/top1 for test/knn_top1 of version 0.1."""
    if name.startswith("test/") and name.count("/") == 1:
        return f"test/{slashed(name.removeprefix('test/'))}"
    return RENAMED.get(name, name)


def slashed(name: str) -> str:
    """knn/top1 for knn_top1."""
    evaluator = next((each for each in FIRST if name.startswith(f"{each}_")), name.partition("_")[0])
    return f"{evaluator}/{name.removeprefix(evaluator).lstrip('_')}" if name != evaluator else name
