"""Columns of a table of groups: their cells, and which of them are left out if there is no room."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ssl_runner.comparison.settings import shorten

if TYPE_CHECKING:
    from ssl_runner.comparison.judge import Group
    from ssl_runner.comparison.statistics import Difference, Interval
    from ssl_runner.comparison.table import Comparison

DISPENSABLE = ("steps", "samples/s", "samples seen", "random")  # columns that go first if there is no room
MOST_SETTINGS = 5  # columns; more of them share one
HEADS = ("run", "seeds", "difference", "random", "test", "seconds", "samples seen", "samples/s", "steps")


def show_value(number: float | None, share: bool) -> str:
    if number is None:
        return "-"
    return f"{100 * number:.1f}" if share else f"{number:.4g}"


def show_interval(shown: Interval | None, share: bool) -> str:
    if shown is None:
        return "-"
    return show_value(shown.mean, share) + ("" if math.isinf(shown.half) else f" ± {show_value(shown.half, share)}")


def show_difference(shown: Difference | None, share: bool) -> str:
    """How far a group is from the best: negative if less is worse."""
    if shown is None:
        return ""
    number = f"{0 - 100 * shown.mean:+.1f}" if share else f"{0 - shown.mean:+.4g}"  # 0 - 0 is no -0
    kind = "p" if shown.paired else "w"
    return number if math.isinf(shown.half) else f"{number} ± {show_value(shown.half, share)} {kind}"


def show_count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{number:,.0f}"


def columns(comparison: Comparison) -> dict[str, Callable[[int, Group], str]]:
    """Heads and the cells below them, for the group of a rank."""
    share = comparison.is_share(comparison.metric)

    def mark(rank: int, each: Group) -> str:
        unsure = each.to_best and not (each.worse or each.better) and not math.isinf(each.to_best.half)
        signs = ["best"] * (comparison.best and rank == 0) + ["="] * bool(unsure) + [">"] * each.better
        return " ".join(signs + ["f"] * (each.front and len(comparison.groups) > 1))

    def setting(key: str, rank: int, each: Group) -> str:
        return each.settings[key]

    heads: dict[str, Callable[[int, Group], str]] = {
        name: partial(setting, key) for key, name in shorten(comparison.keys, HEADS).items()
    }
    if not comparison.keys:
        heads["run"] = lambda rank, each: each.runs[0].name if len(each.runs) == 1 else "all"
    heads["seeds"] = lambda rank, each: str(len(each.values) or len(each.runs))
    if comparison.metric:
        heads[comparison.metric + " %" * share] = lambda rank, each: show_interval(each.interval, share)
        heads[""] = mark
        heads["difference"] = lambda rank, each: show_difference(each.to_best, share)
        heads["random"] = lambda rank, each: show_value(each.baseline, share)
        heads["test"] = lambda rank, each: show_interval(each.test, share)
    heads["seconds"] = lambda rank, each: f"{s:,.0f}" if (s := each.mean("seconds")) >= 10 else f"{s:.1f}"
    heads["samples seen"] = lambda rank, each: show_count(each.mean("samples_seen"))
    heads["samples/s"] = lambda rank, each: f"{each.mean('samples_per_second'):,.0f}"
    heads["steps"] = lambda rank, each: f"{each.mean('step'):,.0f}"
    return heads


def cells(comparison: Comparison, rows: int) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Heads, rows, and the figures that are the same in all of several rows and so stand above the table."""
    heads = columns(comparison)
    full = [[fill(rank, each) for fill in heads.values()] for rank, each in enumerate(comparison.groups)]
    same, kept = {}, []
    for place, head in enumerate(heads):
        values = {row[place] for row in full}
        if head in ("", "difference", "random", "test") and values <= {"", "-"}:
            continue
        if len(full) > 1 and len(values) == 1 and head in ("random", "samples seen", "steps", "seeds"):
            same[head] = values.pop() + " %" * (head == "random" and comparison.is_share(comparison.metric))
            continue
        kept.append(place)
    names = [*heads]
    return [names[place] for place in kept], [[row[place] for place in kept] for row in full[: rows or None]], same


def fit(heads: list[str], rows: list[list[str]], settings: int, width: int) -> tuple[list[str], list[list[str]], int]:
    """Fewer columns if a table is too wide: the settings become one, then dispensable columns are left out."""

    def wide() -> int:
        return sum(2 + max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads)))

    if settings > MOST_SETTINGS or (settings > 1 and wide() > width):
        joined = [" ".join(f"{h}={v}" for h, v in zip(heads[:settings], row, strict=False) if v != "-") for row in rows]
        rows = [[one, *row[settings:]] for one, row in zip(joined, rows, strict=True)]
        heads, settings = ["settings", *heads[settings:]], 1
    for name in DISPENSABLE:
        if wide() > width and name in heads:
            place = heads.index(name)
            heads, rows = heads[:place] + heads[place + 1 :], [row[:place] + row[place + 1 :] for row in rows]
    return heads, rows, settings
