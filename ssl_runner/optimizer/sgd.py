"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass

import torch

from ssl_runner.layers.ranges import NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, split


@dataclass(frozen=True, kw_only=True)
class SGD(Recipe):
    """torch.optim.SGD; weight decay is added to the gradient."""

    lr: Positive = 0.05
    weight_decay: NotNegative = 1e-4
    momentum: Momentum = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov looks ahead along the momentum, and momentum is 0; use momentum=0.9")

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            split(parameters, self.weight_decay), lr=self.peak, momentum=self.momentum, nesterov=self.nesterov
        )
