"""DINOv2: Learning Robust Visual Features without Supervision.

Maxime Oquab, Timothée Darcet, Théo Moutakanni, Huy Vo, Marc Szafraniec, Vasil Khalidov, Pierre Fernandez, Daniel
Haziza, et al. TMLR 2024, arXiv 2304.07193. With Gram anchoring, as an option: Oriane Siméoni, Huy V. Vo, Maximilian
Seitzer, et al., DINOv3, 2025, arXiv 2508.10104.

Differs: the defaults suit small images and short runs (no local views and not 8, 128 prototypes and not 65536, hidden
width 256 and not 2048, momentum 0.95 and not 0.992). An encoder without a class token is asked for the mean of its
patches in the place of it. Sinkhorn's algorithm and KoLeo see the rows of a micro-batch, on all ranks; the authors'
KoLeo sees those of one. Which views have hidden patches is drawn for each by itself, and not for half of the batch.
There is no stochastic depth, and all layers have one learning rate. Prototypes have length 1. Gram anchoring compares
views of one size, and the anchor is an earlier teacher of the same run.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Context, Encoder, Features
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import prototype_head
from ssl_runner.layers.ranges import Count, Natural, NotNegative, Positive, Share
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.loss.distillation import similarity_error
from ssl_runner.loss.koleo import neighbour_cost
from ssl_runner.loss.sinkhorn import sinkhorn
from ssl_runner.loss.token_distillation import Targets, TokenDistillation

NO_TIME, FIVE_PERCENT, TEN_PERCENT, HALF = (Duration(share, "%") for share in (0.0, 5.0, 10.0, 50.0))


class DINOv2(TokenDistillation):
    """Predicts evenly shared prototypes of other views and of hidden patches, and drives samples apart.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved. Its assignments
    give every prototype the same share of the batch, so they cannot collapse. Views and patches have a head each.

    augment, augment_prime: the global views. augment_local: the local views, which the student alone sees; of half the
        side of the global ones if its size is null.
    masked: share of global views of which patches are hidden; of the others none is. ratio: least and largest share of
        patches that is hidden then, in blocks of `block` patches or more.
    weight: of the loss of hidden patches; that of views has 1. koleo: of the regulariser that drives the features of
        the samples of each global view apart.
    teacher_temperature: from `first_teacher_temperature`, reached along a line during `temperature_warm_up`.
    iterations: of Sinkhorn's algorithm on the teacher's assignments.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    freeze: how long prototypes stay as they are at first. hidden, bottleneck: widths of the projection heads.
    gram: weight of Gram anchoring, the error of the cosines between a view's patches against those of an earlier
        teacher, from `gram_starts` on; that is the teacher of `gram_starts`, and anew of every `gram_every` after it.
    Raises ValueError for an encoder that cannot hide tokens or whose tokens are no patches, or that cannot encode local
    views, for global views that differ in size, and for a ratio upside down.
    """

    usual_temperature, usual_momentum = 0.04, 0.95

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_prime: Views,
        augment_local: Views,
        local_views: Natural = 0,
        masked: Share = 0.5,
        ratio: tuple[Share, Share] = (0.1, 0.5),
        block: Count = 4,
        weight: NotNegative = 1.0,
        koleo: NotNegative = 0.1,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.04,
        first_teacher_temperature: Positive = 0.04,
        temperature_warm_up: Duration = NO_TIME,
        iterations: Count = 3,
        momentum: Share = 0.95,
        hidden: Count = 256,
        bottleneck: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 128,
        freeze: Duration = FIVE_PERCENT,
        gram: NotNegative = 0.0,
        gram_starts: Duration = HALF,
        gram_every: Duration = TEN_PERCENT,
    ):
        heads = {name: prototype_head(encoder.dim, hidden, bottleneck, prototypes) for name in ("views", "patches")}
        super().__init__(
            encoder, shape, augment, augment_prime, augment_local, heads, local_views=local_views, masked=masked,
            ratio=ratio, block=block, weight=weight, temperature=temperature, momentum=momentum,
            teacher_temperature=teacher_temperature, first_teacher_temperature=first_teacher_temperature,
            temperature_warm_up=temperature_warm_up, freeze=freeze
        )  # fmt: skip
        self.koleo, self.iterations = koleo, iterations
        self.hidden, self.bottleneck, self.prototypes = hidden, bottleneck, prototypes
        self.gram, self.gram_starts, self.gram_every = gram, gram_starts, gram_every
        self.anchor = frozen_copy(encoder) if gram else None
        self.register_buffer("gram_weight", torch.zeros(()), persistent=False)

    def targets(
        self, views: Tensor, tokens: Tensor, places: Int[Tensor, "b m"], hidden: Bool[Tensor, "b m"]
    ) -> Targets:
        asked = take_tokens(tokens, places).flatten(0, 1)  # (2B m, d)
        targets = sinkhorn(self.teacher_head["views"](views) / self.sharpness, self.iterations)
        token_logits = self.teacher_head["patches"](asked) / self.sharpness
        token_targets = sinkhorn(token_logits, self.iterations, counted=hidden.flatten())
        return targets, token_targets.unflatten(0, places.shape), {}

    def further(self, x: Float[Tensor, "b c h w"], student: Features) -> Mapping[str, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            costs = [neighbour_cost(gather(view)) for view in student.pooled.float().chunk(2)]
        terms = {"koleo": self.koleo * torch.stack(costs).sum()}
        if self.anchor is not None:
            with torch.no_grad():
                anchor = self.anchor(x).tokens
            terms["gram"] = self.gram_weight * similarity_error(student.tokens, anchor)
        return terms

    def before_step(self, ctx: Context) -> None:
        super().before_step(ctx)
        if self.anchor is None:
            return
        starts, every = (
            d.steps(ctx.length.steps_per_epoch, ctx.length.steps) for d in (self.gram_starts, self.gram_every)
        )
        since = ctx.step - starts
        if since == 0 or (since > 0 and every and since % every == 0):
            follow(self.anchor, self.teacher_encoder, 0.0)
        self.gram_weight.fill_(self.gram if since >= 0 else 0.0)
