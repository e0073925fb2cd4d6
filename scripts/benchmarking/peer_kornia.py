"""`peer-kornia`: the data set as one tensor on the device, kornia's batched augmentations, a plain PyTorch loop.

The same as in the runner: encoder, task and loss (the runner's own modules), batch, optimizer class and rate, views by
the same parameters. What differs: kornia augments, and nothing is logged, scheduled, seeded or checked.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarking.augmenters import kornia_batched
from benchmarking.handed import follow, views_of
from benchmarking.loop import timed
from benchmarking.place import Place
from benchmarking.work import Work, pictures, recipes
from ssl_runner.pretext.rotation import Rotation


class Contestant:
    note = "data on the device"

    def __init__(self, setting: Work, ours: bool):
        self.work, job = setting, setting.job()
        self.place = Place(job.device.build(), ours)
        pretext = setting.task()
        self.pretext = self.place.model(pretext.train())
        self.optimizer = self.place.optimizer(job.optimizer.build(batch_size=setting.batch), self.pretext)
        self.augmenters = [kornia_batched(each).to(self.place.device) for each in recipes(pretext)]
        self.images = pictures(setting.rows).to(self.place.device)

    def run(self, steps: int) -> float:
        return timed(self.place, self.batches(), self.learn, 2, steps)

    def batches(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(self.images), device=self.place.device)
            for index in order.split(self.work.batch)[: len(order) // self.work.batch]:
                yield self.images[index].float() / 255

    def learn(self, x: Tensor) -> None:
        with torch.no_grad():
            images = [augment(x) for augment in self.augmenters]
            if isinstance(self.pretext, Rotation):
                images = [images[0].rot90(k, (2, 3)) for k in range(4)]
            views = views_of(self.pretext, images, self.place)
        with self.place.autocast():
            loss = self.pretext(views)
        loss.value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        follow(self.pretext, self.place)

    def close(self) -> None:
        pass
