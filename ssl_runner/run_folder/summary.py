"""A run in one small file: status, place, speed, and what was measured first, last and best."""

from collections.abc import Mapping, Sequence
from typing import Any


def summarise(
    status: str,
    rows: Sequence[Mapping[str, Any]],
    evaluators: Sequence[str],
    *,
    seconds: float,
    step: int,
    steps: int,
    images_per_second: float,
    peak_memory_mb: float,
    error: str | None = None,
    health: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of summary.json, from the rows of metrics.jsonl and the names of the evaluators that wrote in it.

    `status` is one of running, completed, failed, interrupted, stopped (by a collapse). `health` is the doctor's last
    verdict, None without one. Only accuracies have a `best`: of the other numbers larger is not always better.
    """
    measured: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name.partition("/")[0] in evaluators:
                measured.setdefault(name, []).append((row["step"], value))
    tested = [row for row in rows if any(name.startswith("test/") for name in row)]
    return {
        "status": status,
        "step": step,
        "steps": steps,
        "seconds": round(seconds, 2),
        "images_per_second": round(images_per_second, 1),
        "peak_memory_mb": round(peak_memory_mb, 1),
        "baseline": {name: values[0][1] for name, values in measured.items() if values[0][0] == 0},
        "final": {name: values[-1][1] for name, values in measured.items() if values[-1][0] == step},
        "best": {name: max(v for _, v in values) for name, values in measured.items() if "/top" in name},
        "test": {k.removeprefix("test/"): v for row in tested for k, v in row.items() if k.startswith("test/")},
        "health": health,
        "error": error,
    }
