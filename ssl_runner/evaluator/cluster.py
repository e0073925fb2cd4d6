"""Clustering of frozen features by k-means, which sees no label, against the classes.

As in Van Gansbeke et al., SCAN: Learning to classify images without labels, ECCV 2020, arXiv 2005.12320, section 3:
accuracy by the best one-to-one matching of clusters to classes (Kuhn, The Hungarian method for the assignment problem,
1955), normalised mutual information (arithmetic mean), and adjusted Rand index (Hubert & Arabie, Comparing partitions,
1985).
"""

import warnings
from dataclasses import dataclass

import torch.nn.functional as F

from ssl_runner.contract import Encoder, Metric
from ssl_runner.probing.protocol import Count, Encode, Labelled, Seed, require_finite


@dataclass(frozen=True, kw_only=True)
class Cluster(Labelled):
    """Agreement of clusters and classes on the query: `accuracy` and `nmi` in [0, 1], `ari` at most 1 and 0 by chance.

    k-means is fitted on the query itself, as is customary; labels come in only afterwards. Each class gets one cluster
    at most, so more clusters than classes lower the accuracy.
    Raises: as probing.protocol.Labelled, and ValueError if there are more clusters than query rows.
    """

    version = 1
    headline = "accuracy"
    numbers = ("accuracy", "nmi", "ari")
    clusters: Count | None = None  # None: as many as there are classes
    restarts: Count = 10  # starting points (k-means++); the tightest clusters are kept
    normalise: bool = True  # features to unit length first, so that cosine similarity decides
    seed: Seed = 0  # of the starting points; not the run's, so that runs are measured alike

    def __post_init__(self) -> None:
        super().__post_init__()
        if (clusters := self.clusters or self.classes) > (rows := len(self.query.x)):
            remedy = f"use evaluator.cluster.clusters={rows} or leave cluster out"
            raise ValueError(f"there are {clusters} clusters and {rows} query samples; {remedy}")

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        from scipy.optimize import linear_sum_assignment
        from sklearn import cluster, exceptions, metrics

        x, y = encode(self.query.x), self.query.y.cpu().numpy()
        require_finite(x)
        x = (F.normalize(x, dim=1) if self.normalise else x).cpu().double().numpy()
        means = cluster.KMeans(self.clusters or self.classes, n_init=self.restarts, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", exceptions.ConvergenceWarning
            )  # fewer distinct points than clusters: a collapse
            groups = means.fit_predict(x)
        counts = metrics.cluster.contingency_matrix(y, groups)  # rows by class and cluster
        matched = counts[linear_sum_assignment(counts, maximize=True)]
        return {
            "accuracy": Metric(float(matched.sum()) / len(y)),
            "nmi": Metric(float(metrics.normalized_mutual_info_score(y, groups))),
            "ari": Metric(float(metrics.adjusted_rand_score(y, groups)), "larger", "number"),
        }
