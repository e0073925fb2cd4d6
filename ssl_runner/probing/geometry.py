"""Label-free geometry of features: effective rank, decay of the spectrum, alignment and uniformity, dead dimensions.

All work in float64. None changes if features are rotated or scaled, except that `dead_share` looks at each dimension by
itself. `unit_std`, `alignment` and `uniformity` take unit vectors.
"""

import torch
from jaxtyping import Float
from torch import Tensor

FIRST, LAST, LEAST = 11, 50, 3  # eigenvalues that a power law is fitted to, counted from 1; how many it takes
NOISE = 1e-12  # of the largest eigenvalue: below are rounding errors of float32 features
DEAD = 1e-3  # of the features' root mean square: the standard deviation of a dimension that says nothing


def to_float64(x: Float[Tensor, "..."], copy: bool = False) -> Float[Tensor, "..."]:
    """Features in float64, on the CPU if their device has none. `copy`: a new tensor, if they are in float64 too."""
    return (x.cpu() if x.device.type == "mps" else x).to(torch.float64, copy=copy)


def effective_rank(values: Float[Tensor, " k"]) -> float:
    """exp of the entropy of non-negative `values` scaled to a sum of 1, in [1, k]; 0 if all are zero.

    Roy & Vetterli, The effective rank, EUSIPCO 2007.
    """
    total = values.sum()
    return torch.special.entr(values / total).sum().exp().item() if total > 0 else 0.0


def rankme(z: Float[Tensor, "n d"]) -> float:
    """RankMe, in [1, min(n, d)]: the effective rank of the singular values of the features.

    Garrido, Balestriero, Najman, LeCun: RankMe, assessing the downstream performance of pretrained self-supervised
    representations by their rank, ICML 2023, arXiv 2210.02885, equation 1. Differs: no 1e-7 is added to each share.
    """
    return effective_rank(torch.linalg.svdvals(to_float64(z)))


def centred_rank(z: Float[Tensor, "n d"]) -> float:
    """The effective rank of the features less their mean, in [1, min(n - 1, d)]; 0 if they are equal.

    RankMe cannot see it: the mean of features that all lie in one orthant outweighs whatever tells samples apart.
    """
    z = to_float64(z)
    return rankme(z - z.mean(0))


def alpha_req(z: Float[Tensor, "n d"]) -> float:
    """alpha-ReQ: the exponent of the power law n^-alpha that the eigenvalues of the features' covariance follow.

    Agrawal, Mondal, Ghosh, Richards: alpha-ReQ, assessing representation quality in self-supervised learning by
    measuring eigenspectrum decay, NeurIPS 2022, section 3. As in the authors' code, the line through (log n, log
    eigenvalue) weighs each by 1 / n (Stringer et al., Nature 2019), over n from 11 to 50, or from 1 if fewer than
    20 eigenvalues are above zero. NaN if fewer than 3 are.
    """
    z = to_float64(z)
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
    """LiDAR, in [1, min(n - 1, d)]: the effective rank of the scatter between n samples, relative to that of q views.

    The eigenvalues of Sigma_w^-1/2 Sigma_b Sigma_w^-1/2; a sample is a class and its views are the members.
    Thilak et al.: LiDAR, sensing linear probing performance in joint embedding SSL architectures, ICLR 2024,
    arXiv 2312.04000, section 4. Differs: what is added to Sigma_w is 1e-4 of its mean eigenvalue and not 1e-4, so that
    the scale of the features does not matter. 0 if all samples are one point.
    """
    z = to_float64(z)
    means = z.mean(1)  # (n, d)
    within, between = (z - means[:, None]).flatten(0, 1), means - means.mean(0)  # (nq, d), (n, d)
    sigma = within.T @ within / len(within)
    scale = sigma.diagonal().mean()
    if scale <= NOISE * between.square().mean():  # views are equal: nothing to weigh directions by
        return effective_rank(torch.linalg.svdvals(between).square())
    sigma.diagonal().add_(1e-4 * scale)
    # L^-1 Sigma_b L^-T has the same eigenvalues: the squared singular values of L^-1 times the centred means.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(sigma), between.T, upper=False)  # (d, n)
    return effective_rank(torch.linalg.svdvals(whitened).square())


def unit_std(u: Float[Tensor, "n d"]) -> float:
    """Standard deviation of a dimension of unit vectors, averaged and times sqrt(d): 0 for a point, 1 for a sphere.

    Chen & He, Exploring simple Siamese representation learning, CVPR 2021, arXiv 2011.10566, section 4.1.
    """
    return to_float64(u).std(0, correction=0).mean().item() * u.shape[1] ** 0.5


def alignment(u: Float[Tensor, "n q d"]) -> float:
    """The squared distance of two views of a sample, unit vectors, averaged over all pairs; in [0, 4].

    Wang & Isola, Understanding contrastive representation learning through alignment and uniformity on the hypersphere,
    ICML 2020, arXiv 2005.10242, section 4.1.1, alpha = 2.
    """
    u, views = to_float64(u), u.shape[1]
    # Over all pairs of q points the mean squared distance is twice their variance (with q - 1).
    return 2 * views / (views - 1) * (u - u.mean(1, keepdim=True)).square().sum(2).mean().item()


def uniformity(u: Float[Tensor, "n d"]) -> float:
    """log of the mean of exp(-2 distance^2) over pairs of samples, unit vectors; in [-8, 0], 0 for a point.

    Wang & Isola, arXiv 2005.10242, section 4.1.2, t = 2. In float64, but for the logarithm of the number of pairs.
    """
    pairs = torch.pdist(to_float64(u)).square()
    # Of all the file this logarithm alone is float32's: recorded numbers depend on its rounding, about 1e-7 of it.
    return (torch.logsumexp(-2 * pairs, 0) - torch.tensor(len(pairs)).log()).item()


def dead_share(z: Float[Tensor, "n d"]) -> float:
    """Share of dimensions that hardly vary: a standard deviation below 1e-3 of the features' root mean square."""
    z = to_float64(z)
    return (z.std(0, correction=0) <= DEAD * z.square().mean().sqrt()).double().mean().item()
