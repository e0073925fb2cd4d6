"""Decoupled Weight Decay Regularization.

Ilya Loshchilov, Frank Hutter. ICLR 2019, arXiv 1711.05101.
"""

from dataclasses import dataclass

import torch

from ssl_runner.layers.ranges import NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, has_fused, split


@dataclass(frozen=True, kw_only=True)
class AdamW(Recipe):
    """torch.optim.AdamW; a step shrinks the weights by the share rate * weight_decay."""

    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Positive = 1e-8

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        groups = split(parameters, self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.peak, betas=self.betas, eps=self.eps, fused=has_fused(parameters))
