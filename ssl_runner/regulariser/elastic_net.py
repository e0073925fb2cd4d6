"""Regularization and Variable Selection via the Elastic Net.

Hui Zou, Trevor Hastie. Journal of the Royal Statistical Society B 67(2), 2005.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.ranges import NotNegative
from ssl_runner.layers.weights import weights


class ElasticNet(Regulariser):
    """The sum of l1 |w| + l2 / 2 w² over all trainable weights: encoder and heads, biases and norms left out.

    Differs: the square is halved, as in L2, so that each weight means what it means in the term of its name.
    """

    def __init__(self, *, l1: NotNegative = 1e-5, l2: NotNegative = 1e-4):
        super().__init__()
        self.l1 = l1
        self.l2 = l2

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        terms = [self.l1 * w.abs().sum() + self.l2 / 2 * w.square().sum() for w in weights(pretext)]
        return {"elastic_net": torch.stack(terms).sum()}
