"""Rendering of a comparison as text: a table on a terminal, or Markdown."""

import math
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from rich.console import Console
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from ssl_runner.comparison.fairness import plural
from ssl_runner.comparison.judge import Group
from ssl_runner.comparison.run import Run
from ssl_runner.comparison.settings import shorten
from ssl_runner.comparison.statistics import Difference, Interval
from ssl_runner.comparison.table import Comparison

Rows = list[dict[str, str]]  # cells by their heads
DISPENSABLE = ("steps", "samples/s", "samples seen", "random")  # columns that go first if there is no room
MOST_SETTINGS = 5  # columns; more of them share one
HEADS = ("run", "seeds", "difference", "random", "test", "seconds", "samples seen", "samples/s", "steps")
MARKS = {
    "=": "not shown to be worse than the first, all comparisons allowed for",
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
    number = f"{0 - 100 * shown.mean:+.1f}" if share else f"{0 - shown.mean:+.4g}"  # 0 - 0 is no -0
    kind = "p" if shown.paired else "w"
    return number if math.isinf(shown.half) else f"{number} ± {show_value(shown.half, share)} {kind}"


def show_count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= max(size, 1e4):
            return f"{number / size:.3g}{unit}"
    return f"{number:,.0f}"


def signs(comparison: Comparison, rank: int, each: Group) -> str:
    unsure = each.to_best and not (each.worse or each.better) and not math.isinf(each.to_best.half)
    front = each.front and len(comparison.groups) > 1
    shown = {"best": comparison.best and rank == 0, "=": unsure, ">": each.better, "f": front}
    return " ".join(sign for sign, applies in shown.items() if applies)


def cells(comparison: Comparison, rank: int, each: Group) -> dict[str, str]:
    """The row of a group, by heads."""
    share, seconds = comparison.is_share(comparison.metric), each.mean("seconds")
    row = {name: each.settings[key] for key, name in shorten(comparison.keys, HEADS).items()}
    row |= {} if row else {"run": each.runs[0].name if len(each.runs) == 1 else "all"}
    row["seeds"] = str(len(each.values) or len(each.runs))
    if comparison.metric:
        row[comparison.metric + " %" * share] = show_interval(each.interval, share)
        row[""] = signs(comparison, rank, each)
        row["difference"] = show_difference(each.to_best, share)
        row["random"] = show_value(each.baseline, share)
        row["test"] = show_interval(each.test, share)
    row["seconds"] = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    row["samples seen"] = show_count(each.mean("samples_seen"))
    row["samples/s"] = f"{each.mean('samples_per_second'):,.0f}"
    row["steps"] = f"{each.mean('step'):,.0f}"
    return row


def without(rows: Rows, heads: Collection[str]) -> Rows:
    return [{head: cell for head, cell in row.items() if head not in heads} for row in rows]


def table_rows(comparison: Comparison, most: int) -> tuple[Rows, dict[str, str]]:
    """A row for each of the first `most` groups (0: of all), and the figures that are the same in several of them."""
    rows, same = [cells(comparison, rank, each) for rank, each in enumerate(comparison.groups)], {}
    for head in [*rows[0]] if rows else []:
        values = {row[head] for row in rows}
        if head in ("", "difference", "random", "test") and values <= {"", "-"}:
            rows = without(rows, [head])
        elif head in ("random", "samples seen", "steps", "seeds") and len(values) == 1 < len(rows):
            same[head] = values.pop() + " %" * (head == "random" and comparison.is_share(comparison.metric))
            rows = without(rows, [head])
    return rows[: most or None], same


def fit(rows: Rows, settings: int, width: int) -> tuple[Rows, int]:
    """Fewer columns if a table is too wide: the settings become one, then dispensable columns are left out."""

    def wide() -> int:
        return sum(2 + max(len(cell) for cell in (head, *(row[head] for row in rows))) for head in rows[0])

    if settings > MOST_SETTINGS or (settings > 1 and wide() > width):
        heads = [*rows[0]][:settings]
        joined = [" ".join(f"{head}={row[head]}" for head in heads if row[head] != "-") for row in rows]
        rows = [{"settings": one, **row} for one, row in zip(joined, without(rows, heads), strict=True)]
        settings = 1
    for head in DISPENSABLE:
        rows = without(rows, [head]) if wide() > width else rows
    return rows, settings


def summary_line(comparison: Comparison, same: dict[str, str]) -> str:
    done = sum(run.completed for run in comparison.runs)
    groups = f" in {plural(len(comparison.groups), 'group')}" if comparison.keys else ""
    parts = [f"{key} {value}" for key, value in {**comparison.common, **same}.items()]
    together = "; in all of them: " if done > 1 else ": "
    return f"{plural(done, 'completed run')}{groups}" + (f"{together}{', '.join(parts)}" if parts and done else "")


def print_terminal(comparison: Comparison, console: Console, most: int) -> None:
    console.width = width = console.width if console.is_terminal else max(console.width, 120)
    rows, same = table_rows(comparison, most)
    console.print(summary_line(comparison, same))
    if rows:
        rows, settings = fit(rows, max(1, len(comparison.keys)), width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, head in enumerate(rows[0]):
            words = place < settings or head == ""
            table.add_column(Text(head), justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for rank, row in enumerate(rows):
            style = "bold" if rank == 0 and comparison.best else "dim" if comparison.groups[rank].worse else ""
            table.add_row(*map(Text, row.values()), style=style)
        console.print()
        console.print(table)
        if more := len(comparison.groups) - len(rows):
            console.print(f"... {more} more groups; --rows 0 shows all, --html FILE a page")
        console.print()
        if comparison.verdict:
            console.print(comparison.verdict)
        console.print(legend(rows), style="dim")
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if runs := comparison.unfinished:
        table = Table("run", "status", "step", "error", box=None, pad_edge=False, header_style="bold")
        for column in table.columns:
            column.overflow = "fold"
        for run in runs[: most or None]:
            table.add_row(*map(Text, (run.name, run.status, progress(run), run.error or "")))
        lines = [f"  {command}" for run in runs[: most or None] if (command := remedy(run))]
        lines += [f"... {len(runs) - most} more"] if most and len(runs) > most else []
        texts = [Text(line, overflow="ignore", no_wrap=True) for line in lines]
        # a command is worth nothing without its end
        console.print(Lines(Text(f"\nnot completed: {len(runs)}"), table, *texts), crop=False)


def legend(rows: Rows) -> str:
    """The meaning of the signs in the table."""
    intervals = any("±" in cell for row in rows for cell in row.values())
    marks = {sign for row in rows for sign in row.get("", "").split()}
    parts = ["± 95 % interval over seeds"] if intervals else []
    if intervals and "difference" in rows[0]:
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
    rows, same = table_rows(comparison, most)
    lines = [summary_line(comparison, same), ""]
    settings = max(1, len(comparison.keys))
    if rows:
        lines += [line(rows[0]), line("---" if place < settings else "---:" for place in range(len(rows[0])))]
        for rank, row in enumerate(rows):
            bold = comparison.best and rank == 0
            lines.append(line(f"**{c}**" if bold and c and i >= settings else c for i, c in enumerate(row.values())))
        lines += ["", " ".join(each for each in (comparison.verdict, legend(rows)) if each), ""]
    lines += [f"- {warning}" for warning in comparison.warnings]
    if comparison.unfinished:
        lines += ["", line(["not completed", "status", "step", "error", "to go on"]), line(["---"] * 5)]
    for run in comparison.unfinished:
        lines.append(line([run.name, run.status, progress(run), run.error or "", remedy(run)]))
    return "\n".join(lines) + "\n"


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
