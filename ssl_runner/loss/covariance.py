"""Variance, covariance and correlation of an embedding's dimensions: what redundancy-reduction losses are made of.

All measure the rows that they are given, in the precision of these: gather the rows of all ranks first, and leave
autocast. Under bfloat16 a correlation of 1 is off by up to 0.004.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Suspect
from ssl_runner.loss.embedding import unit


def covariance(z: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """The unbiased covariance of the dimensions; n is at least 2."""
    centred = z - z.mean(dim=0)
    return centred.T @ centred / (len(z) - 1)


def correlation(z: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """The covariance of dimensions of unit variance, in [-1, 1]. One that is (almost) constant correlates with none."""
    directions = unit((z - z.mean(dim=0)).T)  # (d, n)
    return directions @ directions.T


def cross_correlation(
    z: Float[Tensor, "n d"], z_prime: Float[Tensor, "n d"], eps: float = 1e-5
) -> Float[Tensor, "d d"]:
    """Of each dimension of `z` with each of `z_prime`, each normalised as by batch norm without scale and shift."""
    return standardise(z, eps).T @ standardise(z_prime, eps) / len(z)


def standardise(z: Float[Tensor, "n d"], eps: float) -> Float[Tensor, "n d"]:
    """Dimensions of mean 0 and (biased) variance 1, `eps` being added to the variance that is divided by."""
    centred = z - z.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + eps).rsqrt()


def off_diagonal(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The matrix with zeros on its diagonal."""
    return matrix.masked_fill(torch.eye(len(matrix), dtype=torch.bool, device=matrix.device), 0.0)


def variance_cost(z: Float[Tensor, "n d"], target: float = 1.0) -> Float[Tensor, ""]:
    """How far the standard deviation of each dimension falls short of `target`, on average.

    VICReg, arXiv 2105.04906, equations 1 and 2; its epsilon keeps the gradient finite if all rows are equal.
    """
    std = (z.var(dim=0) + 1e-4).sqrt()
    return (target - std).relu().mean()


def covariance_cost(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The squared covariances of different dimensions, summed and divided by the number of dimensions.

    VICReg, arXiv 2105.04906, equations 3 and 4.
    """
    return off_diagonal(covariance(z)).square().sum() / z.shape[1]


def weak_terms(invariance: float, variance: float, covariance: float) -> list[Suspect]:
    """Which of the weights of VICReg's terms can let features collapse."""
    suspects: list[Suspect] = []
    if variance < 0.2 * invariance:  # without it a constant embedding costs nothing
        cause = f"pretext.variance={variance:g} is too little beside pretext.invariance={invariance:g}"
        weight = 0.5 if variance else 1.0
        suspects.append(Suspect(cause, f"pretext.variance={invariance:g}", weight))
    if not covariance:
        cause = "pretext.covariance=0, dimensions may repeat one another"
        suspects.append(Suspect(cause, "pretext.covariance=1", 0.7))
    return suspects
