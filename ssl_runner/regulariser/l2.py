"""A Simple Weight Decay Can Improve Generalization.

Anders Krogh, John Hertz. NeurIPS 1991.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.ranges import NotNegative
from ssl_runner.layers.weights import weights


class L2(Regulariser):
    """Half of `weight` times the sum of w² over all trainable weights: encoder and heads, biases and norms left out.

    Its gradient is weight * w: with plain SGD it is exactly `optimizer.weight_decay`, so do not ask for both.
    """

    def __init__(self, *, weight: NotNegative = 1e-4):
        super().__init__()
        self.weight = weight

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        return {"l2": self.weight / 2 * torch.stack([w.square().sum() for w in weights(pretext)]).sum()}
