"""Clusters: whether k-means on frozen features, which sees no label, finds the classes.

As in Van Gansbeke et al., SCAN: Learning to classify images without labels, ECCV 2020, arXiv 2005.12320, section 3:
accuracy by the best one-to-one matching of clusters to classes (Kuhn, The Hungarian method for the assignment problem,
1955), normalised mutual information (arithmetic mean), and adjusted Rand index (Hubert & Arabie, Comparing partitions,
1985).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.require import require_finite


class Cluster:
    """Agreement of clusters and classes on the query: `accuracy` and `nmi` in [0, 1], `ari` at most 1 and 0 by chance.

    k-means is fitted on the query itself, as is customary; labels come in only when it is done. Each class gets one
    cluster at most, so more clusters than classes lower the accuracy.

    Args:
        every: how often it runs.
        clusters: how many; null for as many as there are classes.
        restarts: starting points (k-means++), of which the tightest clusters are kept.
        normalise: whether features are brought to unit length before, so that cosine similarity decides.
        seed: of the starting points; not the run's, so that runs are measured alike.
        query: what is clustered.

    Raises:
        ValueError: there are more clusters than query samples.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 1
    headline = "accuracy"

    def __init__(
        self,
        *,
        every: Duration,
        clusters: Annotated[int, Ge(1)] | None = None,
        restarts: Annotated[int, Ge(1)] = 10,
        normalise: bool = True,
        seed: Annotated[int, Ge(0)] = 0,
        query: Split,
        classes: Annotated[int, Ge(1)],
    ):
        if (clusters or classes) > len(query.y):
            raise ValueError(
                f"there are {clusters or classes} clusters and {len(query.y)} query samples; "
                f"use evaluator.cluster.clusters={max(1, len(query.y))} or leave cluster out"
            )
        self.every = every
        self.clusters = clusters
        self.restarts = restarts
        self.normalise = normalise
        self.seed = seed
        self.query = query
        self.classes = classes

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        from scipy.optimize import linear_sum_assignment
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        x = encode(self.query.x)
        require_finite(x)
        x = (F.normalize(x, dim=1) if self.normalise else x).cpu().double().numpy()
        means = KMeans(self.clusters or self.classes, n_init=self.restarts, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: a collapse
            found = torch.from_numpy(means.fit_predict(x)).long()
        y = self.query.y.cpu().long()
        table = torch.zeros(means.n_clusters, self.classes, dtype=torch.int64)
        table.index_put_(
            (found, y), torch.ones(len(y), dtype=torch.int64), accumulate=True
        )  # rows by cluster and class
        matched = table[linear_sum_assignment(table, maximize=True)]
        return {
            "accuracy": Metric(float(matched.sum()) / len(y)),
            "nmi": Metric(float(normalized_mutual_info_score(y, found))),
            "ari": Metric(float(adjusted_rand_score(y, found)), "larger", "number"),
        }
