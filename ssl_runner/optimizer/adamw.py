"""Decoupled Weight Decay Regularization.

Ilya Loshchilov, Frank Hutter. ICLR 2019, arXiv 1711.05101.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import nn

from ssl_runner.optimizer.groups import has_fused, split
from ssl_runner.optimizer.recipe import Momentum, Recipe


@dataclass(frozen=True, kw_only=True)
class AdamW(Recipe):
    """torch.optim.AdamW; a step shrinks the weights by the share rate * weight_decay."""

    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.05
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Annotated[float, Gt(0)] = 1e-8

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        groups = split(parameters, self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.peak, betas=self.betas, eps=self.eps, fused=has_fused(parameters))
