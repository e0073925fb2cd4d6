"""Large Batch Training of Convolutional Networks.

Yang You, Igor Gitman, Boris Ginsburg. 2017, arXiv 1708.03888.
"""

from dataclasses import dataclass

import torch
from timm.optim import Lars

from ssl_runner.layers.ranges import NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, split


@dataclass(frozen=True, kw_only=True)
class LARS(Recipe):
    """timm's Lars; momentum SGD, where for each weight the step is scaled to the weight's norm.

    Biases and norms keep plain SGD, as in SimCLR and BYOL. `trust` is the paper's η: the size of a step
    at rate 1 as a share of the weight's norm. With `trust_clip` (LARC, as solo-learn has it) no weight takes a larger
    step than plain SGD would at the rate; `trust` is then usually 0.02.
    """

    lr: Positive = 1.0  # SimCLR on CIFAR-10, arXiv 2002.05709, appendix B.9
    weight_decay: NotNegative = 1e-6
    momentum: Momentum = 0.9
    trust: Positive = 1e-3
    trust_clip: bool = False

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        # timm scales only what decays unless told to adapt always: with a weight decay of 0 it would be plain SGD
        groups = split(parameters, self.weight_decay, weights={"always_adapt": True})
        return Lars(groups, lr=self.peak, momentum=self.momentum, trust_coeff=self.trust, trust_clip=self.trust_clip)
