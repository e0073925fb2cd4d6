"""`limit`: forward, backward and optimizer step, and nothing else.

The same as in `runner`: the modules, optimizer, precision, memory format (channels_last), allocator (mallopt) and
torch.compile, since the runner's own job builds them. What differs: the views were made beforehand (two batches of
them, in turn), and there is no loader, augmentation, seeding, learning rate schedule, moving average of a target,
regulariser, check for finite losses, or log. A turn is as long as the runner's.
"""

import itertools
import tempfile
from pathlib import Path

from benchmarking.loop import timed
from benchmarking.place import Place
from benchmarking.runner import logged
from benchmarking.work import Work


class Contestant:
    note, took = "", None

    def __init__(self, setting: Work, ours: bool = True):
        self.folder = tempfile.TemporaryDirectory()
        self.learner = learner = setting.trainer(Path(self.folder.name)).learner
        self.place = Place(learner.device, ours=True)
        self.views = itertools.cycle(
            [
                (learner.views(batch, step, learner.main), learner.main, len(batch.index))
                for step in range(2)
                for batch in learner.loader.batches(step)
            ]
        )
        (optimizer,) = learner.optimizers.values()
        optimizer.apply(learner.settings(learner.length.steps // 2), {})
        self.optimizer = optimizer.optimizer

    def turn(self, steps: int) -> int:
        return logged(steps)

    def run(self, steps: int) -> float:
        return timed(self.place, self.views, self.learn, 2, steps)

    def learn(self, given: tuple) -> None:
        self.place.step_begins()
        self.learner.score(*given).total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def close(self) -> None:
        self.folder.cleanup()
