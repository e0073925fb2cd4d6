"""What is trained in a contest, and for whom: the same encoder, task, batch, optimizer and images for everybody."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from rich.console import Console
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.config.compose import Composer
from ssl_runner.contract import Data, Pretext, Samples
from ssl_runner.engine.trainer import Trainer
from ssl_runner.pretext.byol import BYOL
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.run.assemble import assemble
from ssl_runner.run.job import Job
from ssl_runner.run.preflight import read_job

SIDE = 32  # px, as CIFAR's
SAMPLES = Samples("image", (3, SIDE, SIDE))
STATISTICS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
LOG_EVERY = 10  # steps; by default a job logs every 50th, and Lightning does: both are charged for more


@dataclass(frozen=True)
class Work:
    """A model trained by a task, `batch` images a step, out of `rows` random images that are in memory already."""

    model: str
    pretext: str
    batch: int
    rows: int = 50_000
    device: str = "auto"
    overrides: tuple[str, ...] = ()
    trials: int = 2  # turns for each number of workers that a peer's loader may have

    @property
    def name(self) -> str:
        return f"{self.model} {self.pretext}"

    def job(self) -> Job:
        """Raises ValueError, a line for each thing that is wrong with it."""
        typed = [
            *(f"pretext={self.pretext}", f"model={self.model}", f"device={self.device}", f"batch_size={self.batch}"),
            *("dataset=shapes", f"dataset.images={self.rows}", "dataset.test=0", "dataset.validation=0"),
            *("evaluator=none", "length=10000ep", f"log_every={LOG_EVERY}st", "save_every=100%", "show_every=100%"),
        ]
        job = composed_job([*typed, *self.overrides])
        if job.device.arguments.get("precision") == "fp16":
            raise ValueError("device.precision: given fp16, and the peers' loops scale no loss; type bf16 or float32")
        return job

    def trainer(self, folder: Path) -> Trainer:
        """The job as the runner puts it together, its random images in the place of the dataset's."""
        job = self.job()
        data = Data(pictures(self.rows), None, None, None, STATISTICS["mean"], STATISTICS["std"])
        return assemble(job, job.dataset.build(), data, folder, Console(file=io.StringIO()))

    def task(self) -> Pretext:
        """The runner's own task and encoder, for a peer to train."""
        job = self.job()
        given = {"samples": SAMPLES, "shape": SAMPLES.shape}
        encoder = job.model.build(**given, **STATISTICS)
        return job.pretext.build(**given, encoder=encoder, rows=self.rows)


def composed_job(typed: Sequence[str]) -> Job:
    """The job of what is typed. Raises ValueError, a line for each thing that is wrong with it."""
    composed = Composer().compose(typed)
    job, problems = read_job(composed.content)
    if job is None or problems or composed.problems:
        raise ValueError("\n".join(composed.problems + problems))
    return job


def pictures(rows: int) -> UInt8[Tensor, "n 3 32 32"]:
    return torch.randint(0, 256, (rows, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recipes(pretext: Pretext) -> list[Views]:
    """The recipe of each view that a task takes of an image."""
    task: Any = pretext
    if isinstance(pretext, SimCLR):
        return [task.augment, task.augment]
    return [task.augment, task.augment_prime] if isinstance(pretext, BYOL) else [task.augment]
