"""Optimizer settings over a run: schedules of learning rate and weight decay, clipping, and what does not decay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import nn

from ssl_runner.contract import Settings
from ssl_runner.duration import Duration, Length
from ssl_runner.layers.ranges import Count, NotNegative, Positive, Share
from ssl_runner.layers.weights import is_weight

Momentum = Annotated[float, Interval(ge=0, lt=1)]
Parameters = list[tuple[str, nn.Parameter]]  # with their names
FIVE_PERCENT = Duration(5.0, "%")
FUSED = ("cpu", "cuda")  # devices for which torch has it for Adam and AdamW


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build an optimizer, and its settings at each step. A subclass is one optimizer and adds its own.

    Biases, norms, learnt tokens and positions never decay. A built optimizer starts at `peak` and `weight_decay`; the
    learner sets both for all parameter groups before each step.
    """

    batch_size: Count  # samples a step, over all ranks and micro-batches
    lr: Positive  # the highest learning rate, before `scale_lr`
    weight_decay: NotNegative
    final_weight_decay: NotNegative | None = None  # reached along a cosine; None keeps it constant
    warm_up: Duration = FIVE_PERCENT  # a straight line up from 0
    schedule: Literal["cosine", "step", "constant"] = "cosine"  # over what follows the warm-up
    final_lr: Share = 0.0  # cosine: where it ends, as a share of the peak
    milestones: tuple[Share, ...] = (0.6, 0.8)  # step: shares of what follows the warm-up
    gamma: Annotated[float, Interval(gt=0, le=1)] = 0.1  # step: the factor at each milestone
    clip: Positive | None = None  # largest global norm of the gradient
    clip_each: Positive | None = None  # largest norm of each tensor's gradient, as in DINO
    scale_lr: bool = False  # lr is for 256 samples a step and grows with batch_size; arXiv 1706.02677

    @property
    def peak(self) -> float:
        """The highest learning rate, `scale_lr` applied."""
        return self.lr * self.batch_size / 256 if self.scale_lr else self.lr

    def settings(self, step: int, length: Length) -> Settings:
        """Those of a step, in [0, length.steps). Raises ValueError if the warm-up is longer than the run."""
        decay = self.weight_decay
        if self.final_weight_decay is not None:
            # 1 at the first step, 0 at the last: the cosine of arXiv 2104.14294, section 3.2
            share = cosine(step / max(1, length.steps - 1), 0.0)
            decay = self.final_weight_decay + (decay - self.final_weight_decay) * share
        return Settings(self.rate(step, length), decay, self.peak)

    def rate(self, step: int, length: Length) -> float:
        """The learning rate of a step.

        The warm-up is the line from 0 just before its first step to the peak just after its last one: no step is wasted
        at a rate of 0, and the peak is not taken twice.
        """
        rising = self.warm_up.steps(length.steps_per_epoch, length.steps)
        if rising > length.steps:
            given = f"optimizer.warm_up={self.warm_up} is {rising} steps, and the whole run has {length.steps}"
            raise ValueError(f"{given}; shorten it, or write it as a share of the run: optimizer.warm_up=5%")
        if step < rising:
            return self.peak * ((step + 1) / (rising + 1))
        progress = (step - rising) / (length.steps - rising)
        if self.schedule == "cosine":
            return self.peak * cosine(progress, self.final_lr)
        if self.schedule == "step":
            return self.peak * self.gamma ** sum(milestone <= progress for milestone in self.milestones)
        return self.peak

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """The optimizer of named parameters. Raises ValueError if there are none."""
        raise NotImplementedError(f"{type(self).__name__}.build")


def cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 at progress 0 to `final` at 1. Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983, eq. 5."""
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def split(
    parameters: Parameters, weight_decay: float, *, weights: Mapping[str, Any] = {}, rest: Mapping[str, Any] = {}
) -> list[dict[str, Any]]:
    """Parameter groups as torch.optim takes them: weights with decay, the rest without; an empty one is left out.

    `weights` and `rest` are further options of either group, in the optimizer's own words.
    """
    decayed = [p for name, p in parameters if is_weight(name, p)]
    kept = [p for name, p in parameters if not is_weight(name, p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, **weights},
        {"params": kept, "weight_decay": 0.0, **rest},
    ]
    return [group for group in groups if group["params"]]


def has_fused(parameters: Parameters) -> bool:
    """Whether torch has one kernel for Adam's whole step where these are: a quarter of the time of its loop on a CPU.

    SGD's is not used: its momentum is not a number after a first step that fp16's scaler skips, and it fails if a
    parameter gets its first gradient later than others (torch 2.14).
    """
    return all(p.device.type in FUSED for _, p in parameters)
