"""TiCo: Transformation Invariance and Covariance Contrast for Self-Supervised Visual Representation Learning.

Jiachen Zhu, Rafael M. Moraes, Serkan Karakulak, Vlad Sobol, Alfredo Canziani, Yann LeCun. 2022, arXiv 2206.10698.

Differs: the loss is of one direction, the student's first view against the teacher's second. Whether gradients pass
through the covariance of the batch is a setting, since published implementations disagree. The defaults suit small
images and short runs (a hidden width of 1024 and not 4096, views of one recipe). So do both averages, which forget
sooner: in 300 steps on shapes, features got worse at a covariance momentum of 0.9, with either teacher momentum tried.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative, Share


class TiCo(Pretext):
    """Predicts a teacher's embedding of the other view, and keeps away from where the embeddings of all samples lie.

    `contrast` is the weight of the second term, rho in the paper. It is measured by a moving average of the covariance
    of embeddings (about 0), which keeps `covariance_momentum` of itself at each step, beta in the paper; with
    `covariance_gradient` the share of the batch in it has a gradient. `momentum` is the share of itself that the
    teacher keeps in the first step; it rises to 1 along a cosine. `hidden` and `out` are the widths of the projector.
    """

    covariance: Tensor  # (out, out)

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_prime: Views,
        contrast: NotNegative = 8.0,
        covariance_momentum: Share = 0.5,
        covariance_gradient: bool = True,
        momentum: Share = 0.9,
        hidden: Count = 1024,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.contrast, self.covariance_momentum = contrast, covariance_momentum
        self.covariance_gradient, self.momentum, self.hidden, self.out = covariance_gradient, momentum, hidden, out
        self.projector = mlp((encoder.dim, hidden, out))
        self.teacher_encoder = frozen_copy(self.encoder)
        self.teacher_projector = frozen_copy(self.projector)
        self.register_buffer("covariance", torch.zeros(out, out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        projection = self.projector(self.encoder(views[0]).pooled)  # (B, out)
        with torch.no_grad():
            target = self.teacher_projector(self.teacher_encoder(views[1]).pooled)  # (B, out)
        with torch.autocast(projection.device.type, enabled=False):
            z, z_prime = (F.normalize(each.float(), dim=1) for each in (projection, target))
            covariance = self.moved(gather(z if self.covariance_gradient else z.detach()))
            invariance = 1 - (z * z_prime).sum(dim=1).mean()
            contrast = ((z @ covariance) * z).sum(dim=1).mean()
        # From 1, if all rows are one point, to the width of the embedding
        dimensions = covariance.trace().square() / covariance.square().sum().clamp(min=1e-12)
        metrics = {"invariance": invariance, "contrast": contrast, "dimensions": dimensions}
        return Loss(
            invariance + self.contrast * contrast,
            {name: each.detach() for name, each in metrics.items()},
            projection,
            {"z": z.detach()},
        )

    def moved(self, z: Tensor) -> Tensor:
        """The covariance after a step of rows (n, out): C <- beta C + (1 - beta) z^T z / n."""
        return self.covariance.lerp(z.T @ z / len(z), 1 - self.covariance_momentum)

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.covariance.copy_(self.moved(kept["z"]))  # of all micro-batches at once: a step for each would drift
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.teacher_projector, self.projector, momentum, copy_buffers=False)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.contrast < 1:  # the covariance alone keeps embeddings from one point
            cause = f"pretext.contrast={self.contrast:g} hardly keeps embeddings from one another"
            suspects.append(Suspect(cause, "pretext.contrast=8", 1.0 - 0.5 * self.contrast))
        if self.covariance_momentum > 0.99:
            cause = f"pretext.covariance_momentum={self.covariance_momentum:g}, the covariance follows too slowly"
            suspects.append(Suspect(cause, "pretext.covariance_momentum=0.5", 0.8))
        return suspects
