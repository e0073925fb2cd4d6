"""Large Batch Optimization for Deep Learning: Training BERT in 76 minutes.

Yang You and others. ICLR 2020, arXiv 1904.00962.
"""

from dataclasses import dataclass

import torch
from timm.optim import Lamb

from ssl_runner.layers.ranges import NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, split


@dataclass(frozen=True, kw_only=True)
class LAMB(Recipe):
    """timm's Lamb; Adam's step, which for each weight is scaled to the weight's norm."""

    lr: Positive = 2e-3
    weight_decay: NotNegative = 0.02
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Positive = 1e-6

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        # timm scales only what decays unless told to adapt always
        groups = split(parameters, self.weight_decay, weights={"always_adapt": True})
        # timm clips at a norm of 1 of its own accord; here `clip` alone decides
        return Lamb(groups, lr=self.peak, betas=self.betas, eps=self.eps, max_grad_norm=None)
