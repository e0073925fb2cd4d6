"""A comparison as text: a table on a terminal, or Markdown."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from ssl_runner.comparison.columns import cells, fit
from ssl_runner.comparison.record import Run
from ssl_runner.comparison.table import Comparison

MARKS = {
    "=": "not shown to be worse than the first, all comparisons allowed for",
    ">": "better than the first on the seeds that both have",
    "f": "none is better in less time",
}


def summary_line(made: Comparison, same: dict[str, str]) -> str:
    done = sum(run.completed for run in made.runs)
    runs = f"{done} completed run{'s' * (done != 1)}"
    groups = f" in {len(made.groups)} group{'s' * (len(made.groups) != 1)}" if made.keys else ""
    parts = [f"{key} {value}" for key, value in {**made.common, **same}.items()]
    together = "; in all of them: " if done > 1 else ": "
    return f"{runs}{groups}" + (f"{together}{', '.join(parts)}" if parts and done else "")


def terminal(made: Comparison, console: Console, rows: int) -> None:
    width = console.width if console.is_terminal else max(console.width, 120)
    console.width = width
    settings = max(1, len(made.keys))
    heads, lines, same = cells(made, rows)
    console.print(summary_line(made, same))
    if made.groups:
        heads, lines, settings = fit(heads, lines, settings, width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, head in enumerate(heads):
            words = place < settings or head == ""
            table.add_column(Text(head), justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for rank, line in enumerate(lines):
            style = "bold" if rank == 0 and made.best else "dim" if made.groups[rank].worse else ""
            table.add_row(*(Text(cell) for cell in line), style=style)
        console.print()
        console.print(table)
        if len(made.groups) > len(lines):
            console.print(f"... {len(made.groups) - len(lines)} more groups; --rows 0 shows all, --html FILE a page")
        console.print()
        if made.verdict:
            console.print(made.verdict)
        console.print(note(heads, lines), style="dim")
    for warning in made.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if made.unfinished:
        apart = Lines(Text(f"\nnot completed: {len(made.unfinished)}"), *unfinished(made.unfinished, rows))
        console.print(apart, crop=False)  # what is to be typed is worth nothing without its end


def note(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """What the signs in the table mean."""
    seen = " ".join(cell for line in lines for cell in line)
    marks = {sign for line in lines for sign in line[heads.index("")].split()} if "" in heads else set()
    parts = ["± 95 % interval over seeds"] if "±" in seen else []
    if "difference" in heads and "±" in seen:
        parts.append("difference to the first: p over pairs of equal seeds, w Welch's")
    return "; ".join([*parts, *(f"{sign} {meaning}" for sign, meaning in MARKS.items() if sign in marks)])


def unfinished(runs: Sequence[Run], rows: int) -> list[Table | Text]:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "status", "step", "error"):
        table.add_column(head, overflow="fold")
    for run in runs[: rows or None]:
        table.add_row(*(Text(cell) for cell in (run.name, run.status, progress(run), run.error or "")))
    found: list[Table | Text] = [table]
    found += [Text(f"  {go_on(run)}", overflow="ignore", no_wrap=True) for run in runs[: rows or None] if go_on(run)]
    if rows and len(runs) > rows:
        found.append(Text(f"... {len(runs) - rows} more"))
    return found


def progress(run: Run) -> str:
    return f"{run.step:,} of {run.steps:,}" if run.steps else "not begun"


def go_on(run: Run) -> str:
    """What to do; nothing where a process is at work already."""
    near = run.folder.relative_to(Path.cwd()) if run.folder.is_relative_to(Path.cwd()) else run.folder
    where = shlex.quote(str(near))
    if run.status == "running":
        return ""
    stops_again = run.health == "collapsed" and run.settings.get("on_collapse") == "stop"
    first = f"put on_collapse: warn into {where}/config.yaml, then " if stops_again else ""
    return f"{first}ssl-runner resume {where}"


def markdown(made: Comparison, rows: int) -> str:
    """A table of the groups, and one of the runs that did not complete."""
    heads, lines, same = cells(made, rows)
    words = [summary_line(made, same), ""]
    settings = max(1, len(made.keys))
    if made.groups:
        words += [row(heads), row(["---" if place < settings else "---:" for place in range(len(heads))])]
        for rank, line in enumerate(lines):
            bold = made.best and rank == 0
            words.append(
                row([f"**{cell}**" if bold and cell and i >= settings else cell for i, cell in enumerate(line)])
            )
        words += ["", " ".join(each for each in (made.verdict, note(heads, lines)) if each), ""]
    words += [f"- {warning}" for warning in made.warnings]
    if made.unfinished:
        words += ["", row(["not completed", "status", "step", "error", "to go on"]), row(["---"] * 5)]
        words += [row([run.name, run.status, progress(run), run.error or "", go_on(run)]) for run in made.unfinished]
    return "\n".join(words) + "\n"


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
