"""Rendering of a comparison as text: a table on a terminal, or Markdown."""

import math
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssl_runner.comparison.run import Run
from ssl_runner.comparison.settings import shorten
from ssl_runner.comparison.statistics import Difference, Group, Interval
from ssl_runner.comparison.table import Comparison
from ssl_runner.errors import plural

Columns = dict[str, list[str]]  # cells by their head
# Columns that are left out if there is no room, in this order.
DISPENSABLE = ("steps", "samples/s", "samples seen", "raw features", "random")
MOST_SETTINGS = 5  # columns; more of them share one
RESULTS = ("difference", "raw features", "random", "test")
HEADS = ("run", "seeds", *RESULTS, "seconds", "samples seen", "samples/s", "steps")
MARKS = {
    "=": "may still be the best, all comparisons allowed for",
    ">": "better than the first on the seeds that both have",
    "f": "none is better in less time",
}


def show_value(number: float | None, share: bool) -> str:
    return "-" if number is None else f"{100 * number:.1f}" if share else f"{number:.4g}"


def show_interval(shown: Interval | None, share: bool) -> str:
    half = "" if shown is None or math.isinf(shown.half) else f" ± {show_value(shown.half, share)}"
    return show_value(shown and shown.mean, share) + half


def show_difference(shown: Difference | None, share: bool) -> str:
    """How far a group is from the best: negative if less is worse."""
    if shown is None:
        return ""
    number = f"{-100 * shown.mean:+z.1f}" if share else f"{-shown.mean:+z.4g}"  # z: what is rounded to 0 is no -0
    kind = "p" if shown.paired else "w"
    return number if math.isinf(shown.half) else f"{number} ± {show_value(shown.half, share)} {kind}"


def show_count(number: float) -> str:
    """9,216, or three digits from ten thousand on: 46.1k, 1M."""
    if number < 1e4:
        return f"{number:,.0f}"
    number = float(f"{number:.3g}")
    size, unit = next((size, unit) for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= size)
    return f"{number / size:,.10g}{unit}"


def signs(comparison: Comparison, rank: int, each: Group) -> str:
    unsure = each.to_best and not (each.worse or each.better) and not math.isinf(each.to_best.half)
    front = each.front and len(comparison.groups) > 1
    shown = {"best": comparison.best and rank == 0, "=": unsure, ">": each.better, "f": front}
    return " ".join(sign for sign, applies in shown.items() if applies)


def table_columns(comparison: Comparison, most: int) -> tuple[Columns, dict[str, str]]:
    """Cells of the first `most` groups (0: of all) by head, and the figures that are the same in several of them."""
    groups, metric, share = comparison.groups, comparison.metric, comparison.is_share(comparison.metric)
    columns = {name: [each.settings[key] for each in groups] for key, name in shorten(comparison.keys, HEADS).items()}
    columns = columns or {"run": [each.runs[0].name if len(each.runs) == 1 else "all" for each in groups]}
    columns["seeds"] = [str(len(each.values) or len(each.runs)) for each in groups]
    if metric:
        columns[metric + " %" * share] = [show_interval(each.interval, share) for each in groups]
        columns[""] = [signs(comparison, rank, each) for rank, each in enumerate(groups)]
        columns["difference"] = [show_difference(each.to_best, share) for each in groups]
        columns["raw features"] = [show_value(each.raw, share) for each in groups]
        columns["random"] = [show_value(each.baseline, share) for each in groups]
        columns["test"] = [show_interval(each.test, share) for each in groups]
    columns["seconds"] = [f"{s:,.0f}" if (s := each.mean("seconds")) >= 10 else f"{s:.1f}" for each in groups]
    columns["samples seen"] = [show_count(each.mean("samples_seen")) for each in groups]
    columns["samples/s"] = [f"{each.mean('samples_per_second'):,.0f}" for each in groups]
    columns["steps"] = [f"{each.mean('step'):,.0f}" for each in groups]
    same = {}
    for head, cells in [*columns.items()]:
        if head in ("", *RESULTS) and {*cells} <= {"", "-"}:
            del columns[head]
        elif head in ("raw features", "random", "samples seen", "steps", "seeds") and len({*cells}) == 1 < len(cells):
            same[head] = columns.pop(head)[0] + " %" * (head in ("raw features", "random") and share)
    return {head: cells[: most or None] for head, cells in columns.items()}, same


def fit(columns: Columns, settings: int, width: int) -> tuple[Columns, int]:
    """Narrows a table that is too wide: settings are joined in one column, then dispensable columns are left out."""

    def wide() -> int:
        return sum(2 + max(map(len, (head, *cells))) for head, cells in columns.items())

    if settings > MOST_SETTINGS or (settings > 1 and wide() > width):
        heads = [*columns][:settings]
        rows = zip(*(columns.pop(head) for head in heads), strict=True)
        joined = [
            " ".join(f"{head}={cell}" for head, cell in zip(heads, row, strict=True) if cell != "-") for row in rows
        ]
        columns, settings = {"settings": joined, **columns}, 1
    for head in DISPENSABLE:
        if wide() > width:
            columns.pop(head, None)
    return columns, settings


def summary_line(comparison: Comparison, same: dict[str, str]) -> str:
    done = sum(run.completed for run in comparison.runs)
    groups = f" in {plural(len(comparison.groups), 'group')}" if comparison.keys else ""
    parts = [f"{key} {value}" for key, value in {**comparison.common, **same}.items()]
    together = "; in all of them: " if done > 1 else ": "
    return f"{plural(done, 'completed run')}{groups}" + (f"{together}{', '.join(parts)}" if parts and done else "")


def print_terminal(comparison: Comparison, console: Console, most: int) -> None:
    console.width = width = console.width if console.is_terminal else max(console.width, 120)
    columns, same = table_columns(comparison, most)
    console.print(summary_line(comparison, same))
    if comparison.groups:
        columns, settings = fit(columns, max(1, len(comparison.keys)), width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, head in enumerate(columns):
            words = place < settings or head == ""
            table.add_column(Text(head), justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for rank, row in enumerate(zip(*columns.values(), strict=True)):
            style = "bold" if rank == 0 and comparison.best else "dim" if comparison.groups[rank].worse else ""
            table.add_row(*map(Text, row), style=style)
        console.print()
        console.print(table)
        if more := len(comparison.groups) - table.row_count:
            console.print(f"... {more} more groups; --rows 0 shows all, --html FILE a page")
        console.print()
        if comparison.verdict:
            console.print(comparison.verdict)
        console.print(legend(columns), style="dim")
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if runs := comparison.unfinished:
        table = Table("run", "status", "step", "error", box=None, pad_edge=False, header_style="bold")
        for column in table.columns:
            column.overflow = "fold"
        for run in runs[: most or None]:
            table.add_row(*map(Text, (run.name, run.status, progress(run), run.error or "")))
        console.print(f"\nnot completed: {len(runs)}", table, sep="\n")
        lines = [f"  {command}" for run in runs[: most or None] if (command := remedy(run))]
        lines += [f"... {len(runs) - most} more"] * (0 < most < len(runs))
        for each in lines:  # a command is worth nothing without its end
            console.print(Text(each, overflow="ignore", no_wrap=True), crop=False)


def legend(columns: Columns) -> str:
    """The meaning of the signs in the table."""
    intervals = any("±" in cell for cells in columns.values() for cell in cells)
    marks = {sign for cell in columns.get("", []) for sign in cell.split()}
    parts = ["± 95 % interval over seeds"] * intervals
    if intervals and "difference" in columns:
        parts.append("difference to the first: p over pairs of equal seeds, w Welch's")
    return "; ".join([*parts, *(f"{sign} {meaning}" for sign, meaning in MARKS.items() if sign in marks)])


def progress(run: Run) -> str:
    return f"{run.step:,} of {run.steps:,}" if run.steps else "not begun"


def remedy(run: Run) -> str:
    """What to type to continue the run; nothing if a process is at work already."""
    if run.status == "running":
        return ""
    near = run.folder.relative_to(Path.cwd()) if run.folder.is_relative_to(Path.cwd()) else run.folder
    stops_again = run.health == "collapsed" and run.settings.get("on_collapse") == "stop"
    return f"ssl-runner resume {shlex.quote(str(near))}{' on_collapse=warn' * stops_again}"


def to_markdown(comparison: Comparison, most: int) -> str:
    """A table of the groups, and one of the runs that did not complete."""
    columns, same = table_columns(comparison, most)
    lines, settings = [summary_line(comparison, same), ""], max(1, len(comparison.keys))
    if comparison.groups:
        lines += [line(columns), line("---" if place < settings else "---:" for place in range(len(columns)))]
        for rank, row in enumerate(zip(*columns.values(), strict=True)):
            bold = comparison.best and rank == 0
            lines.append(line(f"**{c}**" if bold and c and place >= settings else c for place, c in enumerate(row)))
        lines += ["", " ".join(each for each in (comparison.verdict, legend(columns)) if each), ""]
    lines += [f"- {warning}" for warning in comparison.warnings]
    if comparison.unfinished:
        lines += ["", line(["not completed", "status", "step", "error", "to go on"]), line(["---"] * 5)]
    for run in comparison.unfinished:
        lines.append(line([run.name, run.status, progress(run), run.error or "", remedy(run)]))
    return "\n".join(lines) + "\n"


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
