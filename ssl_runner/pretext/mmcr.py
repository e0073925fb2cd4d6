"""Learning Efficient Coding of Natural Images with Maximum Manifold Capacity Representations (MMCR).

Thomas Yerxa, Yilun Kuang, Eero Simoncelli, SueYeon Chung. NeurIPS 2023, arXiv 2303.03307.

Differs: the defaults suit small images and short runs (8 views in a large batch, and not 40 in a batch of 32 as on
CIFAR-10). There is no momentum network. The nuclear norm is of the samples of a micro-batch, on all ranks.
"""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.gather import gather_views
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.loss.coding import nuclear_norm


class MMCR(Pretext):
    """Makes the mean embeddings of samples long and different: the nuclear norm of their matrix is maximised.

    The mean of a sample's views, each on the unit sphere, is long only if they agree. The norm is at least the square
    root of the number N of samples (all the same), and at most sqrt(N min(N, out)).

    view_count: views of each sample. compression: lambda, the weight of the mean nuclear norm of a sample's own views.
    hidden, out: widths of the projector, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        view_count: Annotated[int, Ge(2)] = 8,
        compression: NotNegative = 0.0,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.view_count, self.compression, self.hidden, self.out = view_count, compression, hidden, out
        self.projector = mlp((encoder.dim, hidden, out), last="no_bias")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """(view_count * B, C, H, W), view after view."""
        return (self.augment(batch.x.repeat(self.view_count, 1, 1, 1), ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(self.encoder(views[0]).pooled).float()  # (V B, out)
        unit = F.normalize(gather_views(z, self.view_count), dim=2)  # (V, N, out)
        centroids = unit.mean(dim=0)
        value = -nuclear_norm(centroids[None]).squeeze()
        most = (len(centroids) * min(centroids.shape)) ** 0.5
        metrics = {"capacity": -value.detach() / most, "agreement": centroids.detach().norm(dim=1).mean()}
        if self.compression:
            value = value + self.compression * nuclear_norm(unit.transpose(0, 1)).mean()
        return Loss(value, metrics, z)
