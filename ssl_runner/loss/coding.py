"""Spread of an embedding by its singular values: coding rate, nuclear norm, entropy of the normalised Gram matrix."""

import torch
from jaxtyping import Float
from torch import Tensor


def gram(z: Float[Tensor, "v n d"]) -> Float[Tensor, "v k k"]:
    """Z^T Z or Z Z^T, the smaller of the two: the eigenvalues that are not 0 are the same."""
    return z.mT @ z if z.shape[1] > z.shape[2] else z @ z.mT


def coding_rate(z: Float[Tensor, "v n d"], epsilon: float) -> Float[Tensor, " v"]:
    """1/2 log det(I + d / (n epsilon) Z Z^T), in nats: how many are needed for n unit rows at a precision of epsilon.

    Of (v, n, d) rows by view, one rate a view. It is 1/2 log(1 + d / epsilon) if all rows are equal, and d/2
    log(1 + 1 / epsilon) if they are spread evenly over n > d dimensions.
    Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative Representations via the Principle of Maximal Coding
    Rate Reduction", NeurIPS 2020, arXiv 2006.08558.
    """
    n, d = z.shape[1:]
    with torch.autocast(z.device.type, enabled=False):
        k = gram(z.float())
        identity = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        # Every eigenvalue is 1 or more, so the factorisation cannot fail, and need not wait for a check that it did.
        factor = torch.linalg.cholesky_ex(identity + d / (n * epsilon) * k).L
        return factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)


def collision_entropy(z: Float[Tensor, "v n d"]) -> Float[Tensor, " v"]:
    """-2 log |K|_F with K = Z^T Z / trace, in nats: 0 if Z has rank 1, log d if all d singular values are equal.

    The matrix-based Rényi entropy of order 2, of (v, n, d) rows by view. The trace has no gradient.
    """
    with torch.autocast(z.device.type, enabled=False):
        k = gram(z.float())
        trace = k.detach().diagonal(dim1=1, dim2=2).sum(dim=1)
        return 2 * trace.log() - k.square().sum(dim=(1, 2)).log()


def nuclear_norm(z: Float[Tensor, "v n d"]) -> Float[Tensor, " v"]:
    """The sum of the singular values of each matrix: of n unit rows, sqrt(n) if all are equal, at most
    sqrt(n min(n, d))."""
    with torch.autocast(z.device.type, enabled=False):
        return torch.linalg.svdvals(z.float()).sum(dim=1)
