"""What a table of groups shows: its columns, their cells, and which of them go where there is no room."""

import math
from collections.abc import Callable
from functools import partial

from ssl_runner.comparison.judge import Group
from ssl_runner.comparison.metric import is_share
from ssl_runner.comparison.settings import short
from ssl_runner.comparison.statistics import Difference, Interval
from ssl_runner.comparison.table import Comparison

GIVEN_UP = ("steps", "images/s", "images seen", "random")  # columns that go first where there is no room
MOST_SETTINGS = 5  # columns; more of them share one
HEADS = ("run", "seeds", "difference", "random", "test", "seconds", "images seen", "images/s", "steps")


def value(number: float | None, share: bool) -> str:
    if number is None:
        return "-"
    return f"{100 * number:.1f}" if share else f"{number:.4g}"


def ranged(shown: Interval | None, share: bool) -> str:
    if shown is None:
        return "-"
    half = "" if math.isinf(shown.half) else f" ± {value(shown.half, share)}"
    return value(shown.mean, share) + half


def behind(shown: Difference | None, share: bool) -> str:
    """How far a group is from the best: negative where less is worse."""
    if shown is None:
        return ""
    number = f"{0 - 100 * shown.mean:+.1f}" if share else f"{0 - shown.mean:+.4g}"  # 0 - 0 is no -0
    return number if math.isinf(shown.half) else f"{number} ± {value(shown.half, share)} {'p' if shown.paired else 'w'}"


def count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{number:,.0f}"


def columns(made: Comparison) -> dict[str, Callable[[int, Group], str]]:
    """Heads and what stands below them, for the group of a rank."""
    share = is_share(made.metric)
    unit = " %" if share else ""

    def mark(rank: int, each: Group) -> str:
        unsure = each.to_best and not (each.worse or each.better) and not math.isinf(each.to_best.half)
        signs = ["best"] * (made.best and rank == 0) + ["="] * bool(unsure) + [">"] * each.better
        return " ".join(signs + ["f"] * (each.front and len(made.groups) > 1))

    heads: dict[str, Callable[[int, Group], str]] = {
        name: partial(setting, key) for key, name in short(made.keys, HEADS).items()
    }
    if not made.keys:
        heads["run"] = lambda rank, each: each.runs[0].name if len(each.runs) == 1 else "all"
    heads["seeds"] = lambda rank, each: str(len(each.values) or len(each.runs))
    if made.metric:
        heads[f"{made.metric}{unit}"] = lambda rank, each: ranged(each.interval, share)
        heads[""] = mark
        heads["difference"] = lambda rank, each: behind(each.to_best, share)
        heads["random"] = lambda rank, each: value(each.baseline, share)
        heads["test"] = lambda rank, each: ranged(each.test, share)
    heads["seconds"] = lambda rank, each: f"{each.seconds:,.0f}" if each.seconds >= 10 else f"{each.seconds:.1f}"
    heads["images seen"] = lambda rank, each: count(each.images_seen)
    heads["images/s"] = lambda rank, each: f"{each.images_per_second:,.0f}"
    heads["steps"] = lambda rank, each: f"{each.steps:,.0f}"
    return heads


def setting(key: str, rank: int, each: Group) -> str:
    return each.settings[key]


def cells(made: Comparison, rows: int) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Heads, rows, and the figures that are the same in all of several rows and so stand above the table."""
    heads = columns(made)
    full = [[fill(rank, each) for fill in heads.values()] for rank, each in enumerate(made.groups)]
    same = {}
    kept = []
    for place, head in enumerate(heads):
        found = {row[place] for row in full}
        if head in ("", "difference", "random", "test") and found <= {"", "-"}:
            continue
        if len(full) > 1 and len(found) == 1 and head in ("random", "images seen", "steps", "seeds"):
            same[head] = found.pop() + (" %" if head == "random" and is_share(made.metric) else "")
            continue
        kept.append(place)
    names = [*heads]
    return [names[place] for place in kept], [[row[place] for place in kept] for row in full[: rows or None]], same


def fit(heads: list[str], rows: list[list[str]], settings: int, width: int) -> tuple[list[str], list[list[str]], int]:
    """Fewer columns where a table is too wide: the settings become one, then what can be spared goes."""

    def wide() -> int:
        return sum(2 + max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads)))

    if settings > MOST_SETTINGS or (settings > 1 and wide() > width):
        joined = [" ".join(f"{h}={v}" for h, v in zip(heads[:settings], row, strict=False) if v != "-") for row in rows]
        rows = [[one, *row[settings:]] for one, row in zip(joined, rows, strict=True)]
        heads, settings = ["settings", *heads[settings:]], 1
    for name in GIVEN_UP:
        if wide() > width and name in heads:
            place = heads.index(name)
            heads, rows = heads[:place] + heads[place + 1 :], [row[:place] + row[place + 1 :] for row in rows]
    return heads, rows, settings
