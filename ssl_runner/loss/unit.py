"""Rows brought to unit length, with a gradient that stays finite at zero."""

import torch
from jaxtyping import Float
from torch import Tensor


def unit(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length 1. A row of (almost) no length has no direction: it stays as it is, and its gradient stays small,
    where a division by a tiny length would make it enormous."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)  # (n, 1); its gradient at zero is zero
    return z / length.where(length > 1e-6, 1.0)
