"""Emerging Properties in Self-Supervised Vision Transformers (DINO).

Mathilde Caron, Hugo Touvron, Ishan Misra, Hervé Jégou, Julien Mairal, Piotr Bojanowski, Armand Joulin. ICCV 2021,
arXiv 2104.14294.

Differs: the defaults suit small images and short runs (4 local views and not 8, 1024 prototypes and not 65536, hidden
width 512 and not 2048, momentum 0.99 and not 0.996). There is no stochastic depth. The teacher's temperature warms up
by the step and not by the epoch. Batch norm, in an encoder that has it, uses the statistics of a micro-batch,
for global and local views apart.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from ssl_runner.augment.image.multi_crop import local_recipe, multi_crop, require_equal_sizes
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at, suspect_momentum
from ssl_runner.layers.heads import prototype_head
from ssl_runner.layers.image_encoder import check_local_views
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.layers.schedule import ramp, rate_after
from ssl_runner.loss.distillation import view_cross_entropy

NO_TIME, FIVE_PERCENT = Duration(0.0, "%"), Duration(5.0, "%")


class DINO(Pretext):
    """Predicts, from any view of a sample, to which prototypes a teacher assigns its two global views.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved. Its outputs are
    centred and sharpened, against the two ways to collapse: one prototype for all samples, and all prototypes alike.

    augment, augment_prime: the global views. augment_local: the local views, which the student alone sees; of half the
        side of the global ones if its size is null.
    teacher_temperature: from `first_teacher_temperature`, reached along a line during `temperature_warm_up`.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    hidden, bottleneck, prototypes: widths of the projection head. batch_norm: whether its hidden layers have one.
    norm_last_layer: prototypes of length 1; false gives each a learnt length (better with small ViTs, less stable).
    freeze: how long the prototypes stay as they are at the start.
    Raises ValueError if the encoder cannot encode local views, or the global views differ in size.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_prime: Views,
        augment_local: Views,
        local_views: Annotated[int, Ge(0)] = 4,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.04,
        first_teacher_temperature: Positive = 0.04,
        temperature_warm_up: Duration = NO_TIME,
        momentum: Share = 0.99,
        centre_momentum: Share = 0.9,
        hidden: Count = 512,
        bottleneck: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 1024,
        batch_norm: bool = False,
        norm_last_layer: bool = True,
        freeze: Duration = FIVE_PERCENT,
    ):
        super().__init__()
        require_equal_sizes(augment, augment_prime)
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.local_views, self.temperature, self.freeze = local_views, temperature, freeze
        self.teacher_temperature, self.first_teacher_temperature = teacher_temperature, first_teacher_temperature
        self.temperature_warm_up = temperature_warm_up
        self.momentum, self.centre_momentum = momentum, centre_momentum
        self.hidden, self.bottleneck, self.prototypes = hidden, bottleneck, prototypes
        self.batch_norm, self.norm_last_layer = batch_norm, norm_last_layer
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        self.head = prototype_head(
            encoder.dim, hidden, bottleneck, prototypes, norm=batch_norm, fixed_norm=norm_last_layer
        )
        self.teacher_encoder = frozen_copy(self.encoder)
        self.teacher_head = frozen_copy(self.head)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("sharpness", torch.tensor(first_teacher_temperature), persistent=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Global views (2B, C, H, W) and local ones (local_views * B, C, h, w), view after view."""
        recipes = (self.augment, self.augment_prime)
        return multi_crop(batch.x, ctx.rng, recipes, self.augment_local, self.local_views)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        with torch.no_grad():
            logits = self.teacher_head(self.teacher_encoder(views[0]).pooled)  # (2B, K)
            targets = ((logits - self.centre) / self.sharpness).softmax(dim=1)  # equation 1, centred as in 3.1
        pooled = [self.encoder(view).pooled for view in views]
        student = self.head(torch.cat(pooled))  # (V B, K), V = 2 + local_views
        by_view = targets.unflatten(0, (2, -1)), student.unflatten(0, (2 + self.local_views, -1))
        value = view_cross_entropy(*by_view, self.temperature)
        entropy = torch.special.entr(targets).sum(dim=1).mean()  # 0: one prototype each; log K: all alike (section 5.3)
        metrics = {"entropy": entropy, "divergence": value.detach() - entropy}
        # Regularisers see the features of the global views, as KoLeo does in DINOv2 (arXiv 2304.07193).
        return Loss(value, metrics, pooled[0], {"logits": logits.mean(dim=0, keepdim=True)})

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {"head.prototypes": rate_after(self.freeze, ctx)}

    def before_step(self, ctx: Context) -> None:
        first, last = self.first_teacher_temperature, self.teacher_temperature
        self.sharpness.fill_(ramp(first, last, self.temperature_warm_up, ctx))

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        # Equation 4, of all micro-batches and ranks at once: they are of one size, and a step for each would drift.
        self.centre.lerp_(kept["logits"].mean(dim=0), 1 - self.centre_momentum)
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.teacher_head, self.head, momentum, copy_buffers=False)

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.teacher_temperature >= self.temperature:  # section 5.3: without sharpening all prototypes become alike
            cause = f"pretext.teacher_temperature={self.teacher_temperature:g} does not sharpen the targets"
            suspects.append(Suspect(cause, f"pretext.teacher_temperature={0.4 * self.temperature:g}", 0.9))
        elif self.teacher_temperature > 0.07:
            cause = f"pretext.teacher_temperature={self.teacher_temperature:g} is high, targets are hardly sharpened"
            suspects.append(Suspect(cause, "pretext.teacher_temperature=0.04", 0.5))
        if self.centre_momentum > 0.99:  # appendix D: the centre is too slow at 0.999, and one prototype takes all
            cause = f"pretext.centre_momentum={self.centre_momentum:g}, the centre follows too slowly"
            suspects.append(Suspect(cause, "pretext.centre_momentum=0.9", 0.8))
        return [*suspects, *suspect_momentum(self.momentum, 0.99)]
