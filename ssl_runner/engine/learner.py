"""One step of learning: views, forward, regulariser, backward, optimizer; and all the state that it changes."""

from typing import Any

import torch
from torch import Tensor, nn

from ssl_runner.contract import Batch, Context, Optimizer, Pretext, Regulariser
from ssl_runner.device.placement import Placement
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.seed import derive, seed_everything
from ssl_runner.engine.window import Window


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
        steps: int,
    ):
        self.pretext, self.regulariser = device.place(pretext.train()), device.place(regulariser)
        self.loader, self.recipe, self.device, self.seed, self.steps = loader, optimizer, device, seed, steps
        self.score = device.compiled(self.pretext)
        self.groups = self.pretext.groups()
        self.optimizers = {group: optimizer.build(named) for group, named in self.groups.items()}
        self.scalers = {group: device.scaler() for group in self.groups}
        self.main = main_group(self.pretext)
        self.finite = torch.ones((), dtype=torch.bool, device=device.device)  # whether every loss so far was
        self.rng = torch.Generator(device.device)

    def step(self, step: int, window: Window, *, measure_gradient: bool = False) -> None:
        """One optimizer step of each group; what it logs goes into the window."""
        seed_everything(self.seed, "step", step)
        self.device.step_begins()
        with torch.no_grad():
            self.pretext.before_step(self.context(step, "before_step"))
        batches = self.loader.batches(step)
        rate = self.rate(step)
        for group, optimizer in self.optimizers.items():
            for micro, batch in enumerate(batches):
                self._backward(step, group, micro, batch, 1 / len(batches), window)
            norm = self._update(group, optimizer, rate, measure_gradient)
            if norm is not None:
                window.set(f"optimizer/{self.prefix(group)}gradient_norm", norm)
        with torch.no_grad():
            self.pretext.after_step(self.context(step, "after_step"))
        window.steps += 1

    def views(self, batch: Batch, step: int, group: str, micro: int = 0) -> tuple:
        """What the pretext task makes of a batch at a step."""
        with torch.no_grad():
            views = self.pretext.views(batch, self.context(step, group, micro))
        return tuple(map(channels_last, views)) if self.device.channels_last else views

    def context(self, step: int, purpose: str, micro: int = 0, rank: int = 0) -> Context:
        """`purpose` is a group's name or a hook's; each draws from a generator of its own."""
        self.rng.manual_seed(derive(self.seed, "step", step, purpose, micro, rank))
        return Context(step, self.steps, self.loader.steps_per_epoch, self.rng, self.loader.sweep)

    def rate(self, step: int) -> float:
        return self.recipe.rate(step, self.steps, self.loader.steps_per_epoch)

    def prefix(self, group: str) -> str:
        """What the names of a group's numbers begin with: nothing where there is one group."""
        return "" if len(self.groups) == 1 else f"{group}_"

    def is_finite(self) -> bool:
        """Whether every loss so far was finite, and every parameter and buffer is now. Waits for the device."""
        tensors = [t for t in self.pretext.state_dict().values() if t.is_floating_point()]
        return bool(torch.stack([self.finite, *(t.isfinite().all() for t in tensors)]).all())

    def state(self) -> dict[str, Any]:
        return {
            "pretext": self.pretext.state_dict(),
            "optimizers": {group: each.state_dict() for group, each in self.optimizers.items()},
            "scalers": {group: each.state_dict() for group, each in self.scalers.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        self.pretext.load_state_dict(state["pretext"])
        for group, each in self.optimizers.items():
            each.load_state_dict(by_own_kernels(state["optimizers"][group], each))
        for group, scaler in self.scalers.items():
            scaler.load_state_dict(state["scalers"][group])

    def _backward(self, step: int, group: str, micro: int, batch: Batch, share: float, window: Window) -> None:
        views = self.views(batch, step, group, micro)
        with self.device.autocast():
            loss = self.score(views, group)
        total = loss.value.float()
        terms = self.regulariser(loss, self.pretext) if group == self.main else {}
        for term in terms.values():
            total = total + term
        self.scalers[group].scale(total * share).backward()
        self.finite = self.finite & torch.isfinite(total.detach())
        prefix = self.prefix(group)
        window.add(f"train/{prefix}loss", loss.value, share)
        for name, value in loss.metrics.items():
            window.add(f"train/{prefix}{name}", value, share)
        for name, value in terms.items():
            window.add(f"regulariser/{name}", value, share)

    def _update(self, group: str, optimizer: torch.optim.Optimizer, rate: float, measure: bool) -> Tensor | None:
        for each in optimizer.param_groups:
            each["lr"] = rate
        scaler, norm = self.scalers[group], None
        if self.recipe.clip is not None or measure:
            scaler.unscale_(optimizer)
            parameters = [p for _, p in self.groups[group]]
            if self.recipe.clip is None:
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            else:
                norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        self.pretext.zero_grad(set_to_none=True)  # also what this group's loss left in the other groups' parameters
        return norm


def by_own_kernels(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's saved state, to go on by the kernels that this one was built with, be they fused or not.

    Raises ValueError where the state has another number of parameter groups.
    """
    groups = [
        saved | {key: own[key] for key in ("fused", "foreach") if key in own}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def main_group(pretext: Pretext) -> str:
    """The group whose loss trains the encoder: the one that is regularised and shown. Its adversary's is neither."""
    encoder = {id(p) for p in pretext.encoder.parameters()}
    return next(group for group, named in pretext.groups().items() if any(id(p) in encoder for _, p in named))


def channels_last(view: Any) -> Any:
    image = isinstance(view, Tensor) and view.ndim == 4
    return view.contiguous(memory_format=torch.channels_last) if image else view
