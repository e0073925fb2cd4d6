"""Large Batch Optimization for Deep Learning: Training BERT in 76 minutes.

Yang You and others. ICLR 2020, arXiv 1904.00962.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from timm.optim import Lamb
from torch import nn

from ssl_runner.optimizer.groups import split
from ssl_runner.optimizer.recipe import Momentum, Recipe


@dataclass(frozen=True, kw_only=True)
class LAMB(Recipe):
    """timm's Lamb; Adam's step, which for each weight is scaled to the weight's norm."""

    lr: Annotated[float, Gt(0)] = 2e-3
    weight_decay: Annotated[float, Ge(0)] = 0.02
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Annotated[float, Gt(0)] = 1e-6

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        # timm scales only what decays unless told to adapt always
        groups = split(parameters, self.weight_decay, weights={"always_adapt": True})
        # timm clips at a norm of 1 of its own accord; here `clip` alone decides
        return Lamb(groups, lr=self.peak, betas=self.betas, eps=self.eps, max_grad_norm=None)
