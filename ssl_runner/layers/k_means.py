"""K-means: clusters of vectors by their distance, and spherical k-means, of unit vectors by cosine similarity.

Inderjit S. Dhillon, Dharmendra S. Modha, "Concept Decompositions for Large Sparse Text Data using Clustering",
Machine Learning 42, 2001.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Rng
from ssl_runner.layers.gather import gather

AT_ONCE = 65536  # rows whose similarities are held at the same time


def k_means(
    x: Float[Tensor, "n d"], clusters: int, iterations: int, rng: Rng, spherical: bool = True
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Centroids, of unit length if `spherical`, and the centroid that is nearest to each row.

    The first centroids are rows, drawn from `rng`, which has no places; zero for clusters that are more than rows. An
    empty cluster keeps its centroid. No sum is by atomic additions, so that equal rows give the same bits on a GPU too.
    All ranks, which call it with the same rows, get what the first came to: GPUs may encode a row to other bits.
    """
    x = F.normalize(x.float(), dim=1) if spherical else x.float()
    first = x[rng.rand(len(x)).argsort()[:clusters]]
    centroids = F.pad(first, (0, 0, 0, clusters - len(first)))
    for _ in range(iterations):
        sums, counts = torch.zeros_like(centroids), torch.zeros_like(centroids[:, :1])
        for rows in x.split(AT_ONCE):
            members, total = add_up(rows, nearest(rows, centroids, spherical), clusters)
            counts += members[:, None]
            sums += total
        means = F.normalize(sums, dim=1) if spherical else sums / counts.clamp(min=1)
        centroids = torch.where(sums.any(dim=1, keepdim=True) if spherical else counts > 0, means, centroids)
    places = torch.cat([nearest(rows, centroids, spherical) for rows in x.split(AT_ONCE)])
    return gather(centroids)[:clusters], gather(places)[: len(x)]


def add_up(
    x: Float[Tensor, "n d"], ids: Int[Tensor, " n"], clusters: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
    """Of each cluster, the number of its rows and their sum; not by atomic additions, whose order is anyone's."""
    members = (ids[:, None] == torch.arange(clusters, device=ids.device)).to(x.dtype)  # F.one_hot waits for the device
    return members.sum(dim=0), members.T @ x


def nearest(x: Float[Tensor, "*n d"], centroids: Float[Tensor, "k d"], spherical: bool = True) -> Int[Tensor, "*n"]:
    """The centroid that is nearest to each row, or, of unit length, most similar to it.

    In float32 also under autocast: in bfloat16 near centroids have one similarity, and the first of them is chosen.
    """
    with torch.autocast(x.device.type, enabled=False):
        similarity = x.to(centroids.dtype) @ centroids.T
    return (similarity if spherical else similarity - centroids.square().sum(dim=1) / 2).argmax(dim=-1)
