"""Nearest-neighbour estimate of the entropy of a batch: KoLeo (arXiv 1806.03198).

Differs: log ρ is half the log of ρ² + 1e-8. Duplicates then cost log(1e4) each and draw no gradient; the bare
logarithm is infinite, and an epsilon within its distance yields gradients of 1e8.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.loss.embedding import unit


def neighbour_cost(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Minus the mean log distance of each unit row to its nearest other row; low if rows spread."""
    z = unit(z)
    with torch.no_grad():  # the choice of the neighbour has no gradient
        nearest = (z @ z.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    squared = (z - z[nearest]).square().sum(dim=1)  # of the difference itself: 2 - 2 z z^T would cancel near 0
    return -0.5 * torch.log(squared + 1e-8).mean()
