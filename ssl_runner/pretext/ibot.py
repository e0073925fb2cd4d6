"""iBOT: Image BERT Pre-Training with Online Tokenizer.

Jinghao Zhou, Chen Wei, Huiyu Wang, Wei Shen, Cihang Xie, Alan Yuille, Tao Kong. ICLR 2022, arXiv 2111.07832.

Differs: the defaults suit small images and short runs (no local views and not 10, 128 prototypes and not 8192, hidden
width 256 and not 2048, momentum 0.98 and not 0.996). An encoder without a class token is asked for the mean of its
patches in the place of it. Views and patches have one teacher's temperature, which warms up by the step. There is no
stochastic depth. Prototypes have length 1.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Context, Encoder, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.heads import prototype_head
from ssl_runner.layers.ranges import Count, Natural, NotNegative, Positive, Share
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.loss.token_distillation import Targets, TokenDistillation

NO_TIME, FIVE_PERCENT = Duration(0.0, "%"), Duration(5.0, "%")


class IBOT(TokenDistillation):
    """Predicts a teacher's prototypes of a sample's global views from other views, and of hidden patches from the rest.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved. One head is for
    views and patches, each of which has a centre of its own.

    augment, augment_prime: the global views. augment_local: the local views, which the student alone sees; of half the
        side of the global ones if its size is null.
    masked: share of global views of which patches are hidden; of the others none is. ratio: least and largest share of
        patches that is hidden then, in blocks of `block` patches or more.
    weight: of the loss of hidden patches; that of views has 1.
    teacher_temperature: from `first_teacher_temperature`, reached along a line during `temperature_warm_up`.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    centre_momentum: share of themselves that the centres keep. freeze: how long prototypes stay as they are at first.
    hidden, bottleneck: widths of the projection head.
    Raises ValueError for an encoder that cannot hide tokens or whose tokens are no patches, or that cannot encode local
    views, for global views that differ in size, and for a ratio upside down.
    """

    usual_sharpness, usual_momentum = 0.7, 0.98

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
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.07,
        first_teacher_temperature: Positive = 0.07,
        temperature_warm_up: Duration = NO_TIME,
        momentum: Share = 0.98,
        centre_momentum: Share = 0.9,
        hidden: Count = 256,
        bottleneck: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 128,
        freeze: Duration = FIVE_PERCENT,
    ):
        super().__init__(
            encoder, shape, augment, augment_prime, augment_local,
            {"views_and_patches": prototype_head(encoder.dim, hidden, bottleneck, prototypes)}, local_views=local_views,
            masked=masked, ratio=ratio, block=block, weight=weight, temperature=temperature, momentum=momentum,
            teacher_temperature=teacher_temperature, first_teacher_temperature=first_teacher_temperature,
            temperature_warm_up=temperature_warm_up, freeze=freeze
        )  # fmt: skip
        self.centre_momentum = centre_momentum
        self.hidden, self.bottleneck, self.prototypes = hidden, bottleneck, prototypes
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("token_centre", torch.zeros(prototypes))

    def targets(
        self, views: Tensor, tokens: Tensor, places: Int[Tensor, "b m"], hidden: Bool[Tensor, "b m"]
    ) -> Targets:
        head = self.teacher_head["views_and_patches"]
        logits, token_logits = head(views), head(tokens.flatten(0, 1))  # (2B, K), (2B n, K)
        asked = take_tokens(token_logits.unflatten(0, tokens.shape[:2]), places)  # (2B, m, K)
        targets = ((logits - self.centre) / self.sharpness).softmax(dim=1)
        token_targets = ((asked - self.token_centre) / self.sharpness).softmax(dim=2)
        # A mean over images and patches: divided by images alone it would grow with the number of patches.
        kept = {"logits": logits.mean(dim=0, keepdim=True), "token_logits": token_logits.mean(dim=0, keepdim=True)}
        return targets, token_targets, kept

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        # Of all micro-batches and ranks at once: they are of one size, and a step for each would drift.
        self.centre.lerp_(kept["logits"].mean(dim=0), 1 - self.centre_momentum)
        self.token_centre.lerp_(kept["token_logits"].mean(dim=0), 1 - self.centre_momentum)
        super().after_step(ctx, kept)

    def suspects(self) -> Sequence[Suspect]:
        suspects = super().suspects()
        if self.centre_momentum > 0.99:
            cause = f"pretext.centre_momentum={self.centre_momentum:g}, the centres follow too slowly"
            suspects.append(Suspect(cause, "pretext.centre_momentum=0.9", 0.8))
        return suspects
