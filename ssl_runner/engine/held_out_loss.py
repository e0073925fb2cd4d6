"""Held-out loss: the task's own loss on rows that it does not learn from, each time by the same draws."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_runner.contract import Batch, Context, Rows
from ssl_runner.data.stand_ins import NoNumbers
from ssl_runner.device import ranks
from ssl_runner.device.strategy import gathered
from ssl_runner.engine.learner import Learner, channels_last, frozen
from ssl_runner.engine.loader import fetch
from ssl_runner.engine.logbook import Window
from ssl_runner.engine.seed import derive
from ssl_runner.layers.counter_rng import CounterRng


@dataclass
class HeldOutLoss:
    """The `loss` of a pretext task and its metrics on given rows, averaged over batches of the size of training's.

    Views are drawn from seeds of their own, the same at each measurement and in each run. The network is in eval mode,
    so that there is no dropout, and all that training changes is left as it was. A last batch that is not full is left
    out, unless it is the only one. Each of several processes scores its share.
    """

    learner: Learner
    step: int = 0  # the run's current one, which schedules depend on

    @torch.no_grad()
    def __call__(self, rows: Rows) -> dict[str, float]:
        learner, n, means = self.learner, len(rows), Window()
        size = min(learner.length.batch_size // learner.loader.accumulate, n) // ranks.count() * ranks.count()
        if not size:
            raise ValueError(f"loss: {n} rows do not divide among {ranks.count()} processes; give more rows")
        step = min(self.step, learner.length.steps - 1)  # at the end of a run, its last: schedules have no other
        with self.kept_state(), frozen(learner.pretext), gathered(learner.objective), learner.device.autocast():
            learner.pretext.before_step(learner.context(step, "before_step"))
            for number in range(n // size):
                first = number * size + ranks.rank() * (size // ranks.count())
                index = torch.arange(first, first + size // ranks.count())
                means.add(self.score(rows, index, index - number * size, number, step))
        return means.close()

    def score(self, rows: Rows, index: Tensor, places: Tensor, number: int, step: int) -> Mapping[str, Tensor]:
        """The numbers of one batch, of which this process has the samples at `places`."""
        learner, device = self.learner, self.learner.device.device
        x = learner.loader.samples.from_rows(fetch(rows, index).to(device))
        batch = Batch(x, NoNumbers())  # type: ignore[arg-type]  # they are none of the training set's
        rng = CounterRng(derive(0, "held out", number), device, places.to(device))
        views = learner.pretext.views(batch, Context(step, learner.length, rng, learner.sweep))
        loss = learner.pretext(
            tuple(map(channels_last, views)) if learner.device.channels_last else views, learner.main
        )
        return {"loss": loss.value.float(), **{name: each.float() for name, each in loss.metrics.items()}}

    @contextmanager
    def kept_state(self) -> Iterator[None]:
        """Restores all that training changes, as it was on entry."""
        pretext = self.learner.pretext
        before = {name: each.clone() for name, each in pretext.state_dict().items()}
        try:
            yield
        finally:
            pretext.load_state_dict(before)
