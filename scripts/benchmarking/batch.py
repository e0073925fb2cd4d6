"""Section `batch`: steps and images a second of the runner and of the limit against the batch size."""

import statistics
from collections.abc import Callable
from contextlib import closing
from typing import Any

from rich.table import Table

from benchmarking.process import Failed, Hired
from benchmarking.settings import Settings
from benchmarking.turns import alternate, ratio


def measure(settings: Settings, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    found = []
    with closing(Hired("benchmarking.limit")) as limit, closing(Hired("benchmarking.runner")) as runner:
        hired = {"limit": limit, "runner": runner}
        for size in settings.batches:
            work = settings.small(size)
            try:
                for each in hired.values():
                    each.prepare(work)
                rounds = alternate(
                    hired,
                    rounds=min(3, settings.rounds),
                    seconds=settings.seconds,
                    tell=lambda doing, n=size: tell(f"batches of {n}, {doing}"),  # type: ignore[misc]
                )
            except Failed as error:  # the larger ones want still more memory
                tell(f"batches of {size}: {error}")
                break
            seconds = statistics.median(rounds["runner"])
            row = {"work": work.name, "batch": size, "steps_per_second": 1 / seconds}
            found.append(
                {**row, "images_per_second": size / seconds, "ratio": ratio(rounds["limit"], rounds["runner"])}
            )
            for each in hired.values():
                each.release()
    return found


def tables(found: list[dict[str, Any]]) -> list[Table]:
    table = Table("batch", "steps/s", "images/s", "to limit", box=None, title="convnet_small simclr, by batch size")
    for row in found:
        speeds = (f"{row['steps_per_second']:.2f}", f"{row['images_per_second']:,.0f}", f"{row['ratio']:.3f}")
        table.add_row(str(row["batch"]), *speeds)
    return [table]
