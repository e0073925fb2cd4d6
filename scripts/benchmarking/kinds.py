"""Section `kinds`: tokens of text and seconds of audio a second, of the runner beside its limit, on data drawn by code.

Each task has the dataset, the model and the batch of `ssl-runner pretext=NAME`. Tokens are those that are no padding,
seconds those of whole clips.
"""

import io
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarking.choices import CONTESTANTS
from benchmarking.process import Hired
from benchmarking.settings import Settings
from benchmarking.speed import contest, rows
from benchmarking.work import LOG_EVERY, Work, composed_job
from ssl_runner.contract import Data, Dataset
from ssl_runner.engine.trainer import Trainer
from ssl_runner.run.assemble import assemble
from ssl_runner.run.job import Job

TASKS = ("mlm", "clm", "cpc", "wav2vec2")
NAMES = ("limit", "runner")
BATCH = 64  # a job's default


@dataclass(frozen=True)
class Sequences(Work):
    """A task of text or speech, with the dataset and the model that it brings."""

    def job(self) -> Job:
        """Raises ValueError, a line for each thing that is wrong with it."""
        typed = [
            *(f"pretext={self.pretext}", f"device={self.device}", f"batch_size={self.batch}", "evaluator=none"),
            *("length=10000ep", f"log_every={LOG_EVERY}st", "save_every=100%", "show_every=100%"),
        ]
        return composed_job([*typed, *self.overrides])

    def trainer(self, folder: Path) -> Trainer:
        dataset, data = loaded(self)
        return assemble(self.job(), dataset, data, folder, Console(file=io.StringIO()))


@cache
def loaded(work: Sequences) -> tuple[Dataset, Data]:
    dataset = work.job().dataset.build()
    return dataset, dataset.load()


def measure(settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    """`rows` as the table wants them, and `rounds`, seconds a step. Raises Failed if a contestant does."""
    found: dict[str, Any] = {"rows": [], "rounds": {}}

    def lose(name: str, error: Exception) -> None:
        raise error

    with ExitStack() as stack:
        hired = {name: stack.enter_context(closing(Hired(CONTESTANTS[name]))) for name in NAMES}
        for task in TASKS:
            work = Sequences("", task, BATCH, 0, settings.device, settings.overrides)
            _, found["rounds"][task] = contest(work, hired, settings, tell, lose)
            amount, unit = size(work)
            for row in rows(work, found["rounds"][task]):
                found["rows"].append(
                    {**row, "work": task, "unit": unit, "per_second": amount * row["images_per_second"]}
                )
    return found


def size(work: Sequences) -> tuple[float, str]:
    """What a sample has in the mean, and what that is."""
    dataset, data = loaded(work)
    if dataset.samples.kind == "audio":
        return dataset.samples.shape[1] / dataset.samples.rate, "seconds of audio"
    x = data.train[torch.arange(len(data.train))]
    return (x != 0).sum().item() / len(x), "tokens"


def tables(found: dict[str, Any]) -> list[Table]:
    table = Table("task", "contestant", "a second", "to limit", box=None, title="text and speech")
    for row in found["rows"]:
        table.add_row(row["work"], row["contestant"], f"{row['per_second']:,.0f} {row['unit']}", f"{row['ratio']:.3f}")
    return [table]
