"""Clustering of frozen features by k-means, which sees no label, against the classes.

As in Van Gansbeke et al., SCAN: Learning to classify images without labels, ECCV 2020, arXiv 2005.12320, section 3:
accuracy by the best one-to-one matching of clusters to classes (Kuhn, The Hungarian method for the assignment problem,
1955), normalised mutual information (arithmetic mean), and adjusted Rand index (Hubert & Arabie, Comparing partitions,
1985).
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.require import require_finite, require_labelled


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Agreement of clusters and classes on the query: `accuracy` and `nmi` in [0, 1], `ari` at most 1 and 0 by chance.

    k-means is fitted on the query itself, as is customary; labels come in only afterwards. Each class gets one cluster
    at most, so more clusters than classes lower the accuracy.

    Raises:
        ValueError: there are more clusters than query rows.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "accuracy"

    every: Duration
    clusters: Annotated[int, Ge(1)] | None = None  # None: as many as there are classes
    restarts: Annotated[int, Ge(1)] = 10  # starting points (k-means++); the tightest clusters are kept
    normalise: bool = True  # features to unit length first, so that cosine similarity decides
    seed: Annotated[int, Ge(0)] = 0  # of the starting points; not the run's, so that runs are measured alike
    query: Split
    classes: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        require_labelled("cluster", query=self.query)
        if (clusters := self.clusters or self.classes) > (rows := len(self.query.x)):
            raise ValueError(
                f"there are {clusters} clusters and {rows} query samples; "
                f"use evaluator.cluster.clusters={rows} or leave cluster out"
            )

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
            cluster = torch.from_numpy(means.fit_predict(x)).long()
        y = self.query.y.cpu().long()
        counts = torch.zeros(means.n_clusters, self.classes, dtype=torch.int64)  # rows by cluster and class
        counts.index_put_((cluster, y), torch.ones(len(y), dtype=torch.int64), accumulate=True)
        matched = counts[linear_sum_assignment(counts, maximize=True)]
        return {
            "accuracy": Metric(float(matched.sum()) / len(y)),
            "nmi": Metric(float(normalized_mutual_info_score(y, cluster))),
            "ari": Metric(float(adjusted_rand_score(y, cluster)), "larger", "number"),
        }
