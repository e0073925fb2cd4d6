"""Whitening of a batch: rows of mean 0 whose dimensions have variance 1 and no correlation.

Gather the rows of all ranks first, and leave autocast: a Cholesky factor has no half precision. Gradients pass through
the statistics.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def cholesky_whitening(z: Float[Tensor, "... n d"], eps: float) -> Float[Tensor, "... n d"]:
    """Each row's L^-1 (z - mean), for the covariance L L^T of n rows (divided by n - 1) shrunk towards the identity.

    The covariance keeps a share of 1 - `eps`, in [0, 1). Above 0 it keeps the factor finite if rows fill fewer
    than d dimensions: then the others stay near 0.
    """
    centred = z - z.mean(dim=-2, keepdim=True)
    covariance = centred.mT @ centred / (z.shape[-2] - 1)  # (..., d, d)
    identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky_ex((1 - eps) * covariance + eps * identity).L  # its check would wait for the device
    return torch.linalg.solve_triangular(factor, centred.mT, upper=False).mT


def iterative_whitening(
    z: Float[Tensor, "n d"], groups: int, iterations: int = 5, eps: float = 1e-5
) -> Float[Tensor, "n d"]:
    """The inverse square root of the covariance by Newton's iteration, applied to each group of d / groups dimensions.

    Huang, Zhou, Zhu, Liu, Shao, "Iterative Normalization: Beyond Standardization towards Efficient Whitening", CVPR
    2019, arXiv 1904.03441. Directions of little variance are whitened in part; more iterations leave fewer.
    """
    centred = (z - z.mean(dim=0)).unflatten(1, (groups, -1)).transpose(0, 1)  # (groups, n, d / groups)
    identity = torch.eye(centred.shape[2], dtype=z.dtype, device=z.device)
    covariance = centred.mT @ centred / len(z) + eps * identity
    trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]  # (groups, 1, 1)
    normed, root = covariance / trace, identity.expand_as(covariance)
    for _ in range(iterations):
        root = 1.5 * root - 0.5 * root @ root @ root @ normed
    return (centred @ root * trace.rsqrt()).transpose(0, 1).flatten(1)
