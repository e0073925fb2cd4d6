"""Rendering of a comparison as text: a table on a terminal, or Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from ssl_runner.comparison.columns import cells, fit
from ssl_runner.comparison.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from ssl_runner.comparison.record import Run
    from ssl_runner.comparison.table import Comparison

MARKS = {
    "=": "not shown to be worse than the first, all comparisons allowed for",
    ">": "better than the first on the seeds that both have",
    "f": "none is better in less time",
}


def summary_line(comparison: Comparison, same: dict[str, str]) -> str:
    done = sum(run.completed for run in comparison.runs)
    groups = f" in {plural(len(comparison.groups), 'group')}" if comparison.keys else ""
    parts = [f"{key} {value}" for key, value in {**comparison.common, **same}.items()]
    together = "; in all of them: " if done > 1 else ": "
    return f"{plural(done, 'completed run')}{groups}" + (f"{together}{', '.join(parts)}" if parts and done else "")


def print_terminal(comparison: Comparison, console: Console, rows: int) -> None:
    width = console.width if console.is_terminal else max(console.width, 120)
    console.width = width
    settings = max(1, len(comparison.keys))
    heads, lines, same = cells(comparison, rows)
    console.print(summary_line(comparison, same))
    if comparison.groups:
        heads, lines, settings = fit(heads, lines, settings, width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, head in enumerate(heads):
            words = place < settings or head == ""
            table.add_column(Text(head), justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for rank, line in enumerate(lines):
            style = "bold" if rank == 0 and comparison.best else "dim" if comparison.groups[rank].worse else ""
            table.add_row(*(Text(cell) for cell in line), style=style)
        console.print()
        console.print(table)
        if more := len(comparison.groups) - len(lines):
            console.print(f"... {more} more groups; --rows 0 shows all, --html FILE a page")
        console.print()
        if comparison.verdict:
            console.print(comparison.verdict)
        console.print(legend(heads, lines), style="dim")
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if comparison.unfinished:
        apart = Lines(Text(f"\nnot completed: {len(comparison.unfinished)}"), *list_unfinished(comparison, rows))
        console.print(apart, crop=False)  # a command is worth nothing without its end


def legend(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The meaning of the signs in the table."""
    seen = " ".join(cell for line in lines for cell in line)
    marks = {sign for line in lines for sign in line[heads.index("")].split()} if "" in heads else set()
    parts = ["± 95 % interval over seeds"] if "±" in seen else []
    if "difference" in heads and "±" in seen:
        parts.append("difference to the first: p over pairs of equal seeds, w Welch's")
    return "; ".join([*parts, *(f"{sign} {meaning}" for sign, meaning in MARKS.items() if sign in marks)])


def list_unfinished(comparison: Comparison, rows: int) -> list[Table | Text]:
    runs = comparison.unfinished
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "status", "step", "error"):
        table.add_column(head, overflow="fold")
    for run in runs[: rows or None]:
        table.add_row(*(Text(cell) for cell in (run.name, run.status, progress(run), run.error or "")))
    commands = [command for run in runs[: rows or None] if (command := remedy(run))]
    lines = [Text(f"  {command}", overflow="ignore", no_wrap=True) for command in commands]
    more = [Text(f"... {len(runs) - rows} more")] if rows and len(runs) > rows else []
    return [table, *lines, *more]


def progress(run: Run) -> str:
    return f"{run.step:,} of {run.steps:,}" if run.steps else "not begun"


def remedy(run: Run) -> str:
    """What to type to continue the run; nothing if a process is at work already."""
    if run.status == "running":
        return ""
    near = run.folder.relative_to(Path.cwd()) if run.folder.is_relative_to(Path.cwd()) else run.folder
    stops_again = run.health == "collapsed" and run.settings.get("on_collapse") == "stop"
    return f"ssl-runner resume {shlex.quote(str(near))}{' on_collapse=warn' * stops_again}"


def to_markdown(comparison: Comparison, rows: int) -> str:
    """A table of the groups, and one of the runs that did not complete."""
    heads, lines, same = cells(comparison, rows)
    words = [summary_line(comparison, same), ""]
    settings = max(1, len(comparison.keys))
    if comparison.groups:
        words += [row(heads), row(["---" if place < settings else "---:" for place in range(len(heads))])]
        for rank, line in enumerate(lines):
            bold = comparison.best and rank == 0
            words.append(
                row([f"**{cell}**" if bold and cell and i >= settings else cell for i, cell in enumerate(line)])
            )
        words += ["", " ".join(each for each in (comparison.verdict, legend(heads, lines)) if each), ""]
    words += [f"- {warning}" for warning in comparison.warnings]
    if unfinished := comparison.unfinished:
        words += ["", row(["not completed", "status", "step", "error", "to go on"]), row(["---"] * 5)]
        words += [row([run.name, run.status, progress(run), run.error or "", remedy(run)]) for run in unfinished]
    return "\n".join(words) + "\n"


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
