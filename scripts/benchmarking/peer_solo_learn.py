"""`peer-solo-learn-style`: torchvision's transforms on PIL images in a DataLoader, Lightning's Trainer and module.

solo-learn itself pins an old Lightning; this is its structure (da Costa et al., solo-learn: a library of
self-supervised methods for visual representation learning, JMLR 2022): the transforms of its CIFAR pipeline, its
loader's settings, a LightningModule that logs the loss by step and epoch, and no checkpoints.

The same as in the runner: encoder, task and loss (the runner's own modules), batch, optimizer class and rate, views by
the same parameters, precision; rotation's four turns are made of a batch that the loader has yielded. What differs:
transforms, loader and loop, and without `+ours` the optimizer is torch's default (on a CPU a loop over the tensors,
where the runner's is one fused kernel). Lightning logs once in ten steps, as the runner does, counted from the first
that is not: perhaps not within a turn that is shorter.

In the peer's favour: no online classifier, no learning rate schedule, no progress bar; of 0 workers and one a core
(beside a GPU 8 and one a core, at most 16) it has what is faster here; no epoch ends; and neither the start of the
Trainer and of its workers nor the workers' first two waves of batches are counted.
"""

import logging
import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from benchmarking.augmenters import torchvision_pil
from benchmarking.handed import follow, views_of
from benchmarking.loop import ByWorkers, warm_up
from benchmarking.photographs import Several, loader, photographs
from benchmarking.place import Place
from benchmarking.work import LOG_EVERY, Work, recipes
from ssl_runner.contract import Pretext

ACCELERATOR = {"cuda": "gpu", "cpu": "cpu", "mps": "mps"}
PRECISION: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed"}


class Method(LightningModule):
    def __init__(self, pretext: Pretext, optimizer: torch.optim.Optimizer, place: Place):
        super().__init__()
        self.pretext, self.optimizer, self.place = pretext, optimizer, place
        self.score = place.compiled(pretext)

    def training_step(self, batch: tuple[list[Tensor], Tensor], number: int) -> Tensor:
        self.place.step_begins()
        loss = self.score(views_of(self.pretext, batch[0], self.place)).value
        self.log("train_loss", loss, on_epoch=True, sync_dist=True)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        follow(self.pretext, self.place)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer


class Stopwatch(Callback):
    """The times at which the step `first` and the last one ended."""

    def __init__(self, first: int, last: int, place: Place):
        self.first, self.last, self.place = first, last, place
        self.times: list[float] = []

    def on_train_batch_end(self, *arguments: object) -> None:
        if arguments[-1] in (self.first, self.last):
            self.place.synchronise()
            self.times.append(time.perf_counter())


class Contestant(ByWorkers):
    def __init__(self, setting: Work, ours: bool):
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.work, job = setting, setting.job()
        self.place = Place(job.device.build(), ours)
        pretext = setting.task()
        self.data = photographs(setting, Several(*(torchvision_pil(each) for each in recipes(pretext))))
        self.place.model(pretext.train())
        optimizer = self.place.optimizer(job.optimizer.build(batch_size=setting.batch), pretext)
        self.module = Method(pretext, optimizer, self.place)
        self.folder = tempfile.TemporaryDirectory()
        self.choose_workers(self.place.workers, setting.trials)

    def run_with(self, steps: int, workers: int) -> float:
        batches = loader(self.data, self.work, self.place, workers)
        before = warm_up(workers)
        watch = Stopwatch(before - 1, before + steps - 1, self.place)
        Trainer(
            accelerator=ACCELERATOR[self.place.device.type],
            devices=1,
            precision=PRECISION[self.place.placement.precision],
            max_steps=before + steps,
            log_every_n_steps=LOG_EVERY,
            callbacks=[watch],
            logger=TensorBoardLogger(self.folder.name),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(self.module, batches)
        return (watch.times[1] - watch.times[0]) / steps

    def close(self) -> None:
        self.folder.cleanup()
