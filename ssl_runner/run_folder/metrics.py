"""metrics.jsonl: the rows that a run has logged."""

import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a line that is torn by a crash or not of numbers is left out. No file: no rows."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
        if numbers and {"step", "time"} <= row.keys():
            rows.append(row)
    return rows
