"""What all optimizers have in common: the learning rate over the run, and what decays."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import nn

from ssl_runner.duration import Duration
from ssl_runner.optimizer.schedule import cosine, linear, stairs

Share = Annotated[float, Interval(ge=0, le=1)]
Momentum = Annotated[float, Interval(ge=0, lt=1)]
FIVE_PERCENT = Duration(5.0, "%")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build an optimizer, and its learning rate at each step. A subclass is one optimizer and adds its settings.

    Biases, norms, learnt tokens and positions never decay. A built optimizer starts at `peak`, and the trainer sets the
    rate of all its parameter groups before each step.
    """

    batch_size: Annotated[int, Ge(1)]  # samples a step, over all ranks and micro-batches
    lr: Annotated[float, Gt(0)]  # the highest learning rate, before `scale_lr`
    weight_decay: Annotated[float, Ge(0)]
    warm_up: Duration = FIVE_PERCENT  # a straight line up from 0
    schedule: Literal["cosine", "step", "constant"] = "cosine"  # over what follows the warm-up
    final_lr: Share = 0.0  # cosine: where it ends, as a share of the peak
    milestones: tuple[Share, ...] = (0.6, 0.8)  # step: shares of what follows the warm-up
    gamma: Annotated[float, Interval(gt=0, le=1)] = 0.1  # step: the factor at each milestone
    clip: Annotated[float, Gt(0)] | None = None  # largest global norm of the gradient
    scale_lr: bool = False  # lr is for 256 samples a step and grows with batch_size; arXiv 1706.02677

    @property
    def peak(self) -> float:
        """The highest learning rate, `scale_lr` applied."""
        return self.lr * self.batch_size / 256 if self.scale_lr else self.lr

    def rate(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, in [0, steps). Raises ValueError where the warm-up is longer than the run."""
        rising = self.warm_up.steps(steps_per_epoch, steps)
        if rising > steps:
            raise ValueError(
                f"optimizer.warm_up={self.warm_up} is {rising} steps, and the whole run has {steps}; "
                "shorten it, or write it as a share of the run: optimizer.warm_up=5%"
            )
        if step < rising:
            return self.peak * linear(step, rising)
        progress = (step - rising) / (steps - rising)
        if self.schedule == "cosine":
            return self.peak * cosine(progress, self.final_lr)
        if self.schedule == "step":
            return self.peak * stairs(progress, self.milestones, self.gamma)
        return self.peak

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer of named parameters. Raises ValueError where there are none."""
        raise NotImplementedError(f"{type(self).__name__}.build")
