"""The shape of a cloud of features, label-free: how many directions it fills, how evenly, how close views lie.

All of them work in float64. None changes when features are rotated or scaled, but for `dead`, which looks at each
dimension by itself; those that see unit vectors (`spread`, `alignment`, `uniformity`) are told so by their arguments.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FIRST, LAST = 11, 50  # eigenvalues that a power law is fitted to, counted from 1
LEAST = 3  # of them, or there is no fit
NOISE = 1e-12  # of the largest eigenvalue: below are rounding errors of float32 features
DEAD = 1e-3  # of the features' root mean square: the standard deviation of a dimension that says nothing


def effective_rank(values: Float[Tensor, " k"]) -> float:
    """exp of the entropy of non-negative `values` scaled to a sum of 1, in [1, k]; 0 where all are zero.

    Roy & Vetterli, The effective rank, EUSIPCO 2007.
    """
    total = values.sum()
    return torch.special.entr(values / total).sum().exp().item() if total > 0 else 0.0


def rankme(z: Float[Tensor, "n d"]) -> float:
    """RankMe, in [1, min(n, d)]: the effective rank of the singular values of the features.

    Garrido, Balestriero, Najman, LeCun: RankMe, assessing the downstream performance of pretrained self-supervised
    representations by their rank, ICML 2023, arXiv 2210.02885, equation 1. Differs: 0 log 0 is 0, where the paper adds
    1e-7 to each share.
    """
    return effective_rank(torch.linalg.svdvals(wide(z)))


def rank(z: Float[Tensor, "n d"]) -> float:
    """The effective rank of the features once their mean is taken off, in [1, min(n - 1, d)]; 0 where they are equal.

    What RankMe cannot see: the mean of features that all lie in one orthant outweighs whatever tells samples apart.
    """
    z = wide(z)
    return rankme(z - z.mean(0))


def alpha_req(z: Float[Tensor, "n d"]) -> float:
    """alpha-ReQ: the exponent of the power law n^-alpha that the eigenvalues of the features' covariance follow.

    Agrawal, Mondal, Ghosh, Richards: alpha-ReQ, assessing representation quality in self-supervised learning by
    measuring eigenspectrum decay, NeurIPS 2022, section 3. As in the authors' code, the line through (log n, log
    eigenvalue) weighs each by 1 / n (Stringer et al., Nature 2019), over n from 11 to 50. Where fewer than 20
    eigenvalues are above zero it begins at 1. NaN where fewer than 3 are.
    """
    z = wide(z)
    values = torch.linalg.svdvals(z - z.mean(0)).square()  # of the covariance, times n; largest first
    values = values[values > NOISE * values[0]]
    first = FIRST if len(values) >= 20 else 1
    values = values[first - 1 : LAST]
    if len(values) < LEAST:
        return torch.nan
    n = torch.arange(first, first + len(values), dtype=torch.float64, device=z.device)
    x, y, weight = n.log(), values.log(), 1 / n / (1 / n).sum()
    x, y = x - weight @ x, y - weight @ y
    return -((weight * x * y).sum() / (weight * x * x).sum()).item()


def lidar(z: Float[Tensor, "n q d"]) -> float:
    """LiDAR, in [1, min(n - 1, d)]: the effective rank of what tells n samples apart, beside what their q views share.

    The eigenvalues of Sigma_w^-1/2 Sigma_b Sigma_w^-1/2; a sample is a class and its views are the members.
    Thilak et al.: LiDAR, sensing linear probing performance in joint embedding SSL architectures, ICLR 2024,
    arXiv 2312.04000, section 4. Differs: what is added to Sigma_w is 1e-4 of its mean eigenvalue and not 1e-4, so that
    the scale of the features does not matter. 0 where all samples are one point.
    """
    z = wide(z.flatten(0, 1)).view(z.shape)
    means = z.mean(1)  # (n, d)
    within = (z - means[:, None]).flatten(0, 1)  # (nq, d)
    between = means - means.mean(0)  # (n, d)
    sigma = within.T @ within / len(within)
    scale = sigma.diagonal().mean()
    if scale <= NOISE * between.square().mean():  # views are no different: nothing to weigh directions by
        return effective_rank(torch.linalg.svdvals(between).square())
    sigma.diagonal().add_(1e-4 * scale)
    # L^-1 Sigma_b L^-T has the same eigenvalues: the squared singular values of L^-1 times the centred means.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(sigma), between.T, upper=False)  # (d, n)
    return effective_rank(torch.linalg.svdvals(whitened).square())


def spread(u: Float[Tensor, "n d"]) -> float:
    """The standard deviation of a dimension of unit vectors, averaged and times sqrt(d): 0 for a point, 1 for a sphere.

    Chen & He, Exploring simple Siamese representation learning, CVPR 2021, arXiv 2011.10566, section 4.1.
    """
    return wide(u).std(0, correction=0).mean().item() * u.shape[1] ** 0.5


def alignment(u: Float[Tensor, "n q d"]) -> float:
    """The squared distance of two views of a sample, unit vectors, averaged over all pairs; in [0, 4].

    Wang & Isola, Understanding contrastive representation learning through alignment and uniformity on the hypersphere,
    ICML 2020, arXiv 2005.10242, section 4.1.1, alpha = 2.
    """
    u = wide(u.flatten(0, 1)).view(u.shape)
    views = u.shape[1]
    # Over all pairs of q points the mean squared distance is twice their variance (with q - 1).
    return 2 * views / (views - 1) * (u - u.mean(1, keepdim=True)).square().sum(2).mean().item()


def uniformity(u: Float[Tensor, "n d"]) -> float:
    """log of the mean of exp(-2 distance^2) over pairs of samples, unit vectors; in [-8, 0], 0 for a point.

    Wang & Isola, arXiv 2005.10242, section 4.1.2, t = 2.
    """
    pairs = torch.pdist(wide(u)).square()
    return (torch.logsumexp(-2 * pairs, 0) - torch.tensor(len(pairs)).log()).item()


def dead(z: Float[Tensor, "n d"]) -> float:
    """The share of dimensions that hardly vary: a standard deviation below 1e-3 of the features' root mean square."""
    z = wide(z)
    return (z.std(0, correction=0) <= DEAD * z.square().mean().sqrt()).double().mean().item()


def wide(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """In float64, on the CPU where the device has none."""
    return (z.cpu() if z.device.type == "mps" else z).double()
