"""Section `speed`: images a second of every contestant at every work, and its ratio to the limit in the same round.

A contestant that fails at a work costs a line; the others, and the works after it, go on.
"""

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from typing import Any

from rich.table import Table

from benchmarking.choices import CONTESTANTS, OURS, present
from benchmarking.process import Failed, Hired
from benchmarking.settings import Settings
from benchmarking.turns import alternate, ratio
from benchmarking.work import Work


def measure(
    settings: Settings, tell: Callable[[str], None], keep: Callable[[dict[str, Any]], None] = lambda found: None
) -> dict[str, Any]:
    """`rows` as tables want them; `rounds`, seconds a step; `notes`, what was chosen for whom; `skipped`, lines.

    What there is after each work is given to `keep`.
    """
    names, skipped = present(dict.fromkeys(["limit", *settings.contestants]))
    found: dict[str, Any] = {"rows": [], "rounds": {}, "notes": {}, "skipped": skipped}
    for line in skipped:
        tell(line)
    with ExitStack() as stack:
        hired = {
            name: stack.enter_context(closing(Hired(CONTESTANTS[name.removesuffix(OURS)], name.endswith(OURS))))
            for name in names
        }
        for work in settings.works:

            def lose(name: str, error: Failed, work: Work = work) -> None:
                skipped.append(f"{work.name}, {name}: {error.line}")
                tell(f"{work.name}, {name}: {error}")

            notes, rounds = contest(work, hired, settings, tell, lose)
            if rounds:
                found["rounds"][work.name], found["notes"][work.name] = rounds, notes | {"batch": work.batch}
            found["rows"] += rows(work, rounds)
            keep(found)
    return found


def contest(
    work: Work,
    hired: Mapping[str, Hired],
    settings: Settings,
    tell: Callable[[str], None],
    lose: Callable[[str, Failed], None],
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Notes, and seconds a step in each round, of those that did not fail."""
    notes = {}
    for name, each in hired.items():
        tell(f"{work.name}: preparing {name}")
        try:
            notes[name] = each.prepare(work)
        except Failed as error:
            lose(name, error)
    rounds = alternate(
        {name: hired[name] for name in notes},
        rounds=settings.rounds,
        seconds=settings.seconds,
        tell=lambda doing: tell(f"{work.name}, {doing}"),
        lose=lose,
    )
    for each in hired.values():
        with suppress(Failed):  # it has been told
            each.release()
    return notes, rounds


def rows(work: Work, rounds: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """A row a contestant; its ratio is None where the limit itself failed."""
    return [
        {
            "work": work.name,
            "contestant": name,
            "images_per_second": work.batch / statistics.median(times),
            "ratio": ratio(rounds["limit"], times) if "limit" in rounds else None,
        }
        for name, times in rounds.items()
    ]


def tables(found: dict[str, Any]) -> list[Table]:
    """A table a work."""
    made = []
    for work, rounds in found["rounds"].items():
        notes = found["notes"][work]
        table = Table("contestant", "images/s", "to limit", "runner to it", "", box=None)
        table.title, table.title_justify = f"{work}, batch {notes['batch']}", "left"
        for row in found["rows"]:
            if row["work"] == work:
                name = row["contestant"]
                quotient = f"{ratio(rounds[name], rounds['runner']):.2f}" if "runner" in rounds else ""
                to_limit = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
                table.add_row(name, f"{row['images_per_second']:,.0f}", to_limit, quotient, notes[name])
        made.append(table)
    return made
