"""DeepCluster-v2, of Unsupervised Learning of Visual Features by Contrasting Cluster Assignments.

Mathilde Caron, Ishan Misra, Julien Mairal, Priya Goyal, Piotr Bojanowski, Armand Joulin. NeurIPS 2020,
arXiv 2006.09882; on Deep Clustering for Unsupervised Learning of Visual Features, ECCV 2018, arXiv 1807.05520.

Differs: a view of each row is encoded at the start of an epoch, the same for all clusterings, where the paper keeps
what it made of both global views in the epoch before, and clusters them in turn. The defaults suit small images and
short runs (3 times 128 prototypes and not 3000, 4 local views and not 6, hidden width 512 and not 2048).
"""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from ssl_runner.augment.image.multi_crop import local_recipe, multi_crop
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_local_views
from ssl_runner.layers.k_means import k_means
from ssl_runner.layers.ranges import Count, Natural, Positive
from ssl_runner.loss.sinkhorn import perplexity


class DeepClusterV2(Pretext):
    """Predicts, from each view of a sample, its cluster among the training rows, which are clustered every epoch.

    augment: the two global views. augment_local: the local views; of half the side of the global ones if its size is
        null.
    clusterings: how many times rows are clustered, each time from other first centroids, into `prototypes` clusters by
        `iterations` of k-means. The prototypes are the centroids: they have no gradient.
    hidden, out: widths of the projection head.
    Raises ValueError if the encoder cannot encode local views.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        rows: int,
        augment: Views,
        augment_local: Views,
        local_views: Natural = 4,
        temperature: Positive = 0.1,
        hidden: Count = 512,
        out: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 128,
        clusterings: Count = 3,
        iterations: Count = 10,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.local_views, self.temperature, self.hidden, self.out = local_views, temperature, hidden, out
        self.prototypes, self.clusterings, self.iterations = prototypes, clusterings, iterations
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        self.projector = mlp((encoder.dim, hidden, out))
        centroids = F.normalize(torch.randn(clusterings, prototypes, out), dim=2)
        self.register_buffer("centroids", centroids)
        self.register_buffer("assignments", torch.zeros(rows, clusterings, dtype=torch.int64))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Global views (2B, C, H, W), local ones (local_views * B, C, h, w), and the clusters (B, clusterings)."""
        recipes = (self.augment, self.augment)
        crops = multi_crop(batch.x, ctx.rng, recipes, self.augment_local, self.local_views)
        return *crops, self.assignments[batch.index]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        *crops, clusters = views
        z = self.projector(torch.cat([self.encoder(view).pooled for view in crops]))  # (V B, out)
        with torch.autocast(z.device.type, enabled=False):
            logits = F.normalize(z.float(), dim=1) @ self.centroids.flatten(0, 1).T / self.temperature
        logits = logits.unflatten(1, (self.clusterings, -1))  # (V B, clusterings, K)
        targets = clusters.repeat(len(z) // len(clusters), 1)  # (V B, clusterings)
        value = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        right = (logits.argmax(dim=2) == targets).float().mean()
        metrics = {"accuracy": right, "perplexity": perplexity(logits[:, 0].softmax(dim=1))}
        return Loss(value, metrics, z[: len(views[0])])

    def before_step(self, ctx: Context) -> None:
        if not ctx.starts_epoch:
            return
        x = self.encode(ctx)
        for number in range(self.clusterings):
            centroids, clusters = k_means(x, self.prototypes, self.iterations, ctx.rng)
            self.centroids[number] = centroids
            self.assignments[: len(clusters), number] = clusters

    def encode(self, ctx: Context) -> Tensor:
        """(rows, out): a view of each training row by the encoder and projector of now."""
        views = (self.augment(batch.x, ctx.rng) for batch in ctx.sweep())
        pairs = ((x if len(x) > 1 else x.repeat(2, 1, 1, 1), len(x)) for x in views)  # a batch norm needs two rows
        return torch.cat([self.projector(self.encoder(x).pooled)[:count] for x, count in pairs])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        key = f"{prefix}assignments"
        if state_dict.get(key, self.assignments).shape != self.assignments.shape:
            state_dict[key] = self.assignments
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def suspects(self) -> Sequence[Suspect]:
        if self.temperature > 0.5:
            cause = f"pretext.temperature={self.temperature:g} is high, clusters are hardly told apart"
            return [Suspect(cause, "pretext.temperature=0.1", 0.6)]
        return []
