"""Adam: A Method for Stochastic Optimization.

Diederik P. Kingma, Jimmy Ba. ICLR 2015, arXiv 1412.6980.
"""

from dataclasses import dataclass

import torch

from ssl_runner.layers.ranges import NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, has_fused, split


@dataclass(frozen=True, kw_only=True)
class Adam(Recipe):
    """torch.optim.Adam; weight decay is added to the gradient and so divided with it, which `adamw` mends."""

    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Positive = 1e-8

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        groups = split(parameters, self.weight_decay)
        return torch.optim.Adam(groups, lr=self.peak, betas=self.betas, eps=self.eps, fused=has_fused(parameters))
