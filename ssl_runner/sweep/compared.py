"""The comparison at the end of a sweep: its completed jobs as groups of equal settings, judged over their seeds."""

from pathlib import Path

from rich.console import Console

from ssl_runner.comparison.record import load
from ssl_runner.comparison.render import terminal
from ssl_runner.comparison.table import Unknown, compare

ROWS = 12


def compared(folder: Path, metric: str, console: Console) -> None:
    """Prints it, where there are two jobs to compare."""
    runs, _, broken = load([folder])
    done = [run for run in runs if run.completed]
    for line in broken:
        console.print(line, soft_wrap=True)
    if len(done) < 2:
        return
    try:
        made = compare(done, metric)
    except Unknown:
        made = compare(done)
    own = Console(file=console.file, width=console.width, highlight=False, markup=False)
    own.print()
    terminal(made, own, ROWS)
    own.print()
