"""Section `speed`: images a second of every contestant at every work, and its ratio to the limit in the same round."""

import statistics
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from rich.table import Table

from benchmarking.process import Hired
from benchmarking.settings import CONTESTANTS, OURS, Settings, present
from benchmarking.turns import MOST, alternate, ratio


def measure(settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    """`rows` as tables want them; `rounds`, seconds a step; `notes`, what was chosen for whom; `skipped`, lines."""
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
            notes = {}
            for name, each in hired.items():
                tell(f"{work.name}: preparing {name}")
                notes[name] = each.prepare(work)
            rounds = alternate(
                hired,
                rounds=settings.rounds,
                seconds=settings.seconds,
                most=max(2, min(MOST, work.rows // work.batch // 2)),  # within an epoch, as long ones are
                tell=lambda doing, work=work: tell(f"{work.name}, {doing}"),  # type: ignore[misc]
            )
            for each in hired.values():
                each.release()
            found["rounds"][work.name], found["notes"][work.name] = rounds, notes | {"batch": work.batch}
            for name, times in rounds.items():
                speed = work.batch / statistics.median(times)
                row = {"work": work.name, "contestant": name, "images_per_second": speed}
                found["rows"].append({**row, "ratio": ratio(rounds["limit"], times)})
    return found


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
                table.add_row(name, f"{row['images_per_second']:,.0f}", f"{row['ratio']:.3f}", quotient, notes[name])
        made.append(table)
    return made
