"""Regression Shrinkage and Selection via the Lasso.

Robert Tibshirani. Journal of the Royal Statistical Society B 58(1), 1996.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.ranges import NotNegative
from ssl_runner.layers.weights import weights


class L1(Regulariser):
    """`weight` times the sum of |w| over all trainable weights: encoder and heads, biases and norms left out.

    Heads count too, as in weight decay: otherwise scale would move from the encoder, where it costs, into a head.
    """

    def __init__(self, *, weight: NotNegative = 1e-5):
        super().__init__()
        self.weight = weight

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        return {"l1": self.weight * torch.stack([w.abs().sum() for w in weights(pretext)]).sum()}
