"""Runs as rows for `ls` and for filters: state, time, choices, settings, and numbers in the units that are shown."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_runner.comparison.filter import Row, Value, number
from ssl_runner.comparison.run import ABSENT, Meaning, Run, base_name, name_metrics
from ssl_runner.errors import plural
from ssl_runner.run_folder.layout import PEOPLE

PERCENT = {"knn/top1": "knn %", "probe/top1": "probe %", "test": "test %"}  # columns, and their heads
SHOWN = ("state", "when", "pretext", "dataset", "steps", *PERCENT, "name", "tags", "run")
RIGHT = ("steps", *PERCENT)


def list_runs(runs: Sequence[Run]) -> list[dict[str, Value]]:
    """A row for each run, the newest first, with every column that a filter may name."""
    ordered = sorted(runs, key=lambda run: (-run.begun, run.name))
    values, meanings, _ = name_metrics(ordered)
    return [row_of(run, own, meanings) for run, own in zip(ordered, values, strict=True)]


def row_of(run: Run, metrics: dict[str, float], meanings: dict[str, Meaning]) -> dict[str, Value]:
    shares = {name for name in metrics if meanings.get(base_name(name), {}).get("unit") == "share"}
    settings = {key: each for key, each in run.traits.items() if key not in PEOPLE}
    shown = {name: round(100 * each, 1) if name in shares else float(f"{each:.4g}") for name, each in metrics.items()}
    tested = next((shown[name] for name in ("test/probe/top1", "test/knn/top1") if name in shown), None)
    return {
        "state": run.status,
        "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.begun)),
        **{key: None if each == ABSENT else value_of(each) for key, each in settings.items()},
        "step": run.step,
        "steps": run.steps,
        "seconds": run.seconds,
        "samples seen": run.samples_seen,
        "name": run.label,
        "tags": run.tags,
        "notes": run.notes,
        "run": run.name,
        "error": run.error,
        "test": tested,
        **shown,
    }


def value_of(text: str) -> Value:
    """A setting as a number if it is one."""
    plain = number(text) if text[-1:].isdigit() else None
    return text if plain is None else plain


def print_list(rows: Sequence[Row], of: int, console: Console, most: int) -> None:
    """Prints a line for each run. `of`: how many there are with those that a filter left out."""
    console.width = console.width if console.is_terminal else max(console.width, 200)
    columns = {head: [cell(head, row.get(head)) for row in rows[: most or None]] for head in SHOWN}
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in columns:
        table.add_column(PERCENT.get(head, head), justify="right" if head in RIGHT else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    if rows:
        console.print(table)
    more = f"; {len(rows) - most:,} more, shown by --rows 0" if 0 < most < len(rows) else ""
    console.print(f"{plural(len(rows), 'run')} of {of:,}{more}", style="dim", highlight=False)


def cell(head: str, value: Value) -> str:
    if isinstance(value, float) and head in PERCENT:
        return f"{value:.1f}"
    return ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
