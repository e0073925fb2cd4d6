"""Training step: views, forward, regulariser, backward, optimizer; and all the state that it changes."""

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ssl_runner.contract import Batch, Context, Encoder, Optimizer, Pretext, Regulariser, Settings
from ssl_runner.device import ranks
from ssl_runner.device.placement import Placement
from ssl_runner.device.sharding import local, share_of, whole
from ssl_runner.device.strategy import distributed, gathered, gradients_of, synchronised
from ssl_runner.engine.interrupt import clock
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.objective import Objective
from ssl_runner.engine.rates import GroupOptimizer
from ssl_runner.engine.seed import derive, seed_everything
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.gather import gather
from ssl_runner.layers.weights import whole_state


class Learner:
    """A pretext task, its optimizers and a loader. `step(i)` is a function of (seed, i, state) and of nothing else."""

    def __init__(
        self,
        pretext: Pretext,
        loader: Loader,
        optimizer: Optimizer,
        regulariser: Regulariser,
        device: Placement,
        *,
        seed: int,
    ):
        self.pretext = synchronised(pretext.train(), device)
        self.loader, self.recipe, self.device, self.seed = loader, optimizer, device, seed
        self.length = loader.length
        self.main = main_group(self.pretext)
        shards = ranks.count() > 1 and device.strategy == "fsdp"
        self.whole_encoder = copy.deepcopy(self.pretext.trained()) if shards else None
        self.objective = distributed(Objective(self.pretext, regulariser, self.main, device), device)
        self.score, self.groups = device.compiled(self.objective), self.pretext.groups()
        prefixes, first = list(self.pretext.rates(self.context(0, "before_step"))), self.settings(0)
        self.optimizers = {
            group: GroupOptimizer(optimizer, named, prefixes, first, device.scaler())
            for group, named in self.groups.items()
        }
        self.finite = torch.ones((), dtype=torch.bool, device=device.device)  # whether every loss so far was
        self.first_samples: list[tuple[int, int, Batch]] = []  # that the embedding is measured on, once they were read
        self.waited = 0.0  # seconds that steps stood still for data, since a log last set it to 0

    def step(self, step: int, *, measure_gradient: bool = False) -> dict[str, Tensor]:
        """One optimizer step of each group. Returns what it logs: detached scalars on the device, by name."""
        seed_everything(self.seed, "step", step, ranks.rank())
        self.device.step_begins()
        context = self.context(step, "before_step")
        settings, rates = self.settings(step), self.pretext.rates(context)
        with torch.no_grad():
            self.pretext.before_step(context)
        began = clock()
        batches = self.loader.batches(step)
        self.waited += clock() - began
        numbers: dict[str, Tensor] = {}
        kept: dict[str, list[Tensor]] = defaultdict(list)
        for group, optimizer in self.optimizers.items():
            for micro, batch in enumerate(batches):
                views = self.views(batch, step, group, micro)
                with gradients_of(self.objective, last=micro == len(batches) - 1):
                    parts = self._backward(views, group, len(batch.index), 1 / len(batches), kept)
                for name, part in parts.items():
                    numbers[name] = numbers[name] + part if name in numbers else part
            norm = optimizer.step(settings, rates, measure=measure_gradient)
            self.pretext.zero_grad(set_to_none=True)  # also what this group's loss left in other groups' parameters
            if norm is not None and measure_gradient:
                numbers[f"optimizer/{self.prefix(group)}gradient_norm"] = norm.detach()
        with torch.no_grad():
            rows = {name: torch.cat([gather(part) for part in parts]) for name, parts in kept.items()}
            self.pretext.after_step(self.context(step, "after_step"), rows)
        return numbers

    def views(self, batch: Batch, step: int, group: str, micro: int = 0, stride: int = 1) -> tuple:
        """The views of a batch at a step; `stride`: the batch is every `stride`-th sample of the step's."""
        with torch.no_grad():
            views = self.pretext.views(batch, self.context(step, group, self.places(batch, micro, stride)))
        return tuple(map(channels_last, views)) if self.device.channels_last else views

    def look(self, step: int) -> tuple[Tensor, tuple, dict[str, Tensor]]:
        """Samples and views of a step's first micro-batch, and the method's pictures of them. It changes nothing."""
        batch = self.loader.batches(step)[0]
        views = self.views(batch, step, self.main)
        with frozen(self.pretext), gathered(self.objective):
            return batch.x, views, dict(self.pretext.pictures(views))

    def context(self, step: int, purpose: str, places: Tensor | None = None) -> Context:
        """`purpose`: a group's name or a hook's, each with draws of its own. `places`: of the samples in the batch."""
        rng = CounterRng(derive(self.seed, "step", step, purpose), self.device.device, places)
        return Context(step, self.length, rng, self.sweep)

    def sweep(self) -> Iterator[Batch]:
        """The whole training set in row order, unaugmented. Batch norm keeps its running statistics meanwhile."""
        norms = [each for each in self.pretext.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
        buffers = [buffer for each in norms for buffer in each.buffers()]
        before = [buffer.clone() for buffer in buffers]
        try:
            with gathered(self.objective):
                yield from self.loader.sweep()
        finally:  # also if a method leaves the sweep before its end
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)

    def places(self, batch: Batch, micro: int, stride: int) -> Tensor:
        """Where a micro-batch's samples are among those of the step, all ranks together."""
        first = ranks.first_place(self.length.batch_size, self.loader.accumulate, micro)
        return torch.arange(first, first + stride * len(batch.index), stride, device=self.device.device)

    def settings(self, step: int) -> Settings:
        """Learning rate and weight decay of a step, before the method's own factors."""
        return self.recipe.settings(step, self.length)

    def prefix(self, group: str) -> str:
        """What the names of a group's numbers begin with: nothing if there is one group."""
        return "" if len(self.groups) == 1 else f"{group}_"

    def is_finite(self) -> bool:
        """Whether every loss so far was finite, and every parameter and buffer is now. Waits for all devices."""
        tensors = [local(t) for t in self.pretext.state_dict().values() if t.is_floating_point()]
        return ranks.every(bool(torch.stack([self.finite, *(t.isfinite().all() for t in tensors)]).all()))

    def state(self) -> dict[str, Any]:
        """All that training changes: of the first rank, whole, on any number of ranks. All ranks must call it."""
        state = {
            "pretext": self.pretext.state_dict(),
            "optimizers": {group: each.optimizer.state_dict() for group, each in self.optimizers.items()},
            "scalers": {group: each.scaler.state_dict() for group, each in self.optimizers.items()},
        }
        return whole(state) if self.is_sharded else state

    def load(self, state: dict[str, Any]) -> None:
        own = self.pretext.state_dict()
        self.pretext.load_state_dict({name: share_of(each, own.get(name)) for name, each in state["pretext"].items()})
        for group, each in self.optimizers.items():
            each.load(state["optimizers"][group])
            each.scaler.load_state_dict(state["scalers"][group])

    @property
    def is_sharded(self) -> bool:
        return isinstance(self.objective, FSDPModule)

    def trained(self) -> Encoder:
        """The encoder that is measured and saved: if it is sharded, a whole copy of it. All ranks must call it."""
        encoder = self.pretext.trained()
        if self.whole_encoder is None:
            return encoder
        self.whole_encoder.load_state_dict(whole_state(encoder))
        return copy.deepcopy(self.whole_encoder).to(self.device.device)

    def _backward(
        self, views: tuple, group: str, samples: int, share: float, kept: dict[str, list[Tensor]]
    ) -> dict[str, Tensor]:
        """Adds a micro-batch's share to the gradient, and its rows to `kept`. Returns its share of each number."""
        score = self.score(views, group, samples)
        self.optimizers[group].scaler.scale(score.total * share).backward()
        self.finite = self.finite & torch.isfinite(score.total.detach())
        for name, rows in score.kept.items():
            kept[name].append(rows)
        prefix = self.prefix(group)
        numbers = {f"train/{prefix}{name}": value for name, value in {"loss": score.loss, **score.metrics}.items()}
        numbers |= {f"regulariser/{name}": value for name, value in score.terms.items()}
        # under autocast a number may be bf16, in which 256 + 1 is 256
        return {name: value.float() * share for name, value in numbers.items()}


def main_group(pretext: Pretext) -> str:
    """The group whose loss trains the encoder: the one that is regularised and shown. Its adversary's is neither."""
    encoder = {id(p) for p in pretext.encoder.parameters()}
    return next(group for group, named in pretext.groups().items() if any(id(p) in encoder for _, p in named))


def channels_last(view: Any) -> Any:
    image = isinstance(view, Tensor) and view.ndim == 4
    return view.contiguous(memory_format=torch.channels_last) if image else view


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient. Each submodule's own mode is restored, also if some were in eval mode already."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training
