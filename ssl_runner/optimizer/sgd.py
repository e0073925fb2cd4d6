"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import nn

from ssl_runner.optimizer.groups import split
from ssl_runner.optimizer.recipe import Momentum, Recipe


@dataclass(frozen=True, kw_only=True)
class SGD(Recipe):
    """torch.optim.SGD; weight decay is added to the gradient."""

    lr: Annotated[float, Gt(0)] = 0.05
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    momentum: Momentum = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov looks ahead along the momentum, and momentum is 0; use momentum=0.9")

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            split(parameters, self.weight_decay), lr=self.peak, momentum=self.momentum, nesterov=self.nesterov
        )
