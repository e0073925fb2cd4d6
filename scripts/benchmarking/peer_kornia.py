"""`peer-kornia`: the data set as one tensor on the device, kornia's batched augmentations, a plain PyTorch loop.

The same as in the runner: encoder, task and loss (the runner's own modules), batch, optimizer class and rate, views by
the same parameters. What differs: kornia augments, and nothing is logged, scheduled, seeded or checked; without `+ours`
the optimizer is torch's default, on a CPU a loop over the tensors where the runner's is one fused kernel.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarking.augmenters import kornia_batched
from benchmarking.handed import follow, views_of
from benchmarking.loop import timed
from benchmarking.place import Place
from benchmarking.work import Work, pictures, recipes


class Contestant:
    note, took = "data on the device", None

    def __init__(self, setting: Work, ours: bool):
        self.work, job = setting, setting.job()
        self.place = Place(job.device.build(), ours)
        pretext = setting.task()
        self.pretext = self.place.model(pretext.train())
        self.optimizer = self.place.optimizer(job.optimizer.build(batch_size=setting.batch), self.pretext)
        self.score = self.place.compiled(self.pretext)
        self.augmenters = [kornia_batched(each, self.place.device) for each in recipes(pretext)]
        self.images = pictures(setting.rows).to(self.place.device)

    def turn(self, steps: int) -> int:
        return steps

    def run(self, steps: int) -> float:
        return timed(self.place, self.batches(), self.learn, 2, steps)

    def batches(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(self.images), device=self.place.device)
            for index in order.split(self.work.batch)[: len(order) // self.work.batch]:
                yield self.images[index].float() / 255

    def learn(self, x: Tensor) -> None:
        with torch.no_grad():
            views = views_of(self.pretext, [augment(x) for augment in self.augmenters], self.place)
        self.place.step_begins()
        with self.place.autocast():
            loss = self.score(views)
        loss.value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        follow(self.pretext, self.place)

    def close(self) -> None:
        pass
