"""Comparison at the end of a sweep: its completed jobs as groups of equal settings, judged over their seeds."""

from pathlib import Path

from rich.console import Console

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.render import print_terminal
from ssl_runner.comparison.table import Unknown, compare

ROWS = 12


def print_comparison(folder: Path, metric: str, console: Console) -> None:
    """Prints nothing if there are no two jobs to compare."""
    runs, _, broken = load_runs([folder])
    completed = [run for run in runs if run.completed]
    own = Console(file=console.file, width=console.width, highlight=False, markup=False)
    for line in broken:
        own.print(line, soft_wrap=True)
    if len(completed) > 1:
        try:
            table = compare(completed, metric)
        except Unknown:
            table = compare(completed)
        own.print()
        print_terminal(table, own, ROWS)
        own.print()
