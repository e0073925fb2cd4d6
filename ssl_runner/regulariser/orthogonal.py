"""Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?

Nitin Bansal, Xiaohan Chen, Zhangyang Wang. NeurIPS 2018, arXiv 1810.09102.

This is the soft orthogonality (SO) of section 3.1; the paper's SRIP bounds the spectral norm of the same difference by
a power iteration, and is not here.
Differs: the smaller of W W^T and W^T W is taken. The two costs differ by |rows - columns|, which no matrix of that
shape can avoid, so the gradient is the paper's and an orthogonal matrix of any shape costs 0.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.ranges import NotNegative
from ssl_runner.layers.weights import weights


def soft_orthogonality(weight: Float[Tensor, "out ..."]) -> Float[Tensor, ""]:
    """||W W^T - I||_F² of a weight flattened to (out, in * kernel), on the side with fewer vectors."""
    matrix = weight.flatten(1)  # (out, in * kernel)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    gram = matrix @ matrix.T
    return (gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype)).square().sum()


class Orthogonal(Regulariser):
    """`weight` times the soft orthogonality of all trainable weights: convolutions and linear layers, heads too."""

    def __init__(self, *, weight: NotNegative = 1e-3):
        super().__init__()
        self.weight = weight

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        return {"orthogonal": self.weight * torch.stack([soft_orthogonality(w) for w in weights(pretext)]).sum()}
