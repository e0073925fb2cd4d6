"""Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (I-JEPA).

Mahmoud Assran, Quentin Duval, Ishan Misra, Piotr Bojanowski, Pascal Vincent, Michael Rabbat, Yann LeCun, Nicolas
Ballas. CVPR 2023, arXiv 2301.08243.

Differs: targets are normalised over the tokens of an image, as data2vec 2.0's are (arXiv 2212.07525), and not over the
numbers of a token, as in the authors' code. The loss is smooth L1, as there, and not squared. All targets have the same
number of patches, and all contexts, each in blocks of its own; the authors draw one size a batch, and cut each mask to
the shortest, which takes from the bottom of the image. The defaults suit small images and short runs: a predictor 64
wide and 2 deep and not 384 and 6 or more, momentum 0.98 and not 0.996.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from ssl_runner.augment.image.block_mask import multi_block_masks
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, suspect_momentum
from ssl_runner.layers.image_encoder import patch_grid, require_tokens
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.layers.token_predictor import TokenPredictor
from ssl_runner.layers.transformer import normalise_tokens, take_tokens


class IJEPA(Pretext):
    """Predicts a teacher's features of several blocks of an image, from a context block without them.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved.

    targets: blocks that are predicted, each by itself. target: share of patches in each, rounded. aspect: of a block,
        height over width. context: share of patches in the block that the context is what is left of.
    normalise: the teacher's tokens over the numbers of a token (layer), or each number over the tokens of an image
        (instance), which takes from the targets what all patches of an image have in common.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a line.
    width, depth, heads: of the predictor, which is thrown away.
    Raises ValueError for an encoder that cannot drop tokens or whose tokens are no patches, for targets that may leave
    no context, and for a width that `heads` or 4 does not divide.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        targets: Count = 4,
        target: Annotated[float, Interval(gt=0, lt=1)] = 0.1875,
        aspect: tuple[Positive, Positive] = (0.75, 1.5),
        context: tuple[Share, Share] = (0.85, 1.0),
        normalise: Literal["layer", "instance"] = "instance",
        momentum: Share = 0.98,
        width: Annotated[int, Ge(4)] = 64,
        depth: Count = 2,
        heads: Count = 4,
    ):
        super().__init__()
        require_tokens(encoder)
        self.encoder, self.augment = encoder, augment
        self.targets, self.target, self.aspect, self.context = targets, target, aspect, context
        self.normalise, self.momentum = normalise, momentum
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, _ = patch_grid(encoder, shape, augment.size)
        tokens = self.grid[0] * self.grid[1]
        self.size = max(1, round(tokens * target))
        if targets * self.size >= tokens:
            most = (tokens - 1) // targets
            remedy = f"type pretext.target={most / tokens:.3g}" if most else f"type pretext.targets={tokens - 1}"
            raise ValueError(
                f"{targets} targets of {self.size} patches may leave none of {tokens} as context; {remedy}"
            )
        self.predictor = TokenPredictor(encoder.dim, self.grid, width=width, depth=depth, heads=heads)
        self.teacher_encoder = frozen_copy(self.encoder)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, positions of the context (B, k), and of the patches of each target (B, t, m)."""
        masks = multi_block_masks(
            len(batch.x), self.grid, self.targets, self.size, ctx.rng, scale=self.context, aspect=self.aspect
        )
        return self.augment(batch.x, ctx.rng), *masks

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, context, targets = views
        with torch.no_grad():
            whole = normalise_tokens(self.teacher_encoder(x).tokens, self.normalise)  # (B, n, d), s_y of the paper
            target = take_tokens(whole, targets.flatten(1))  # (B, t m, d)
        features = self.encoder(x, context)  # s_x
        places = context.repeat_interleave(self.targets, dim=0)
        tokens = features.tokens.repeat_interleave(self.targets, dim=0)  # (B t, k, d)
        predicted = self.predictor(tokens, places, targets.flatten(0, 1)).float()  # (B t, m, d)
        value = F.smooth_l1_loss(predicted.flatten(0, 1), target.flatten(0, 1))
        # Of each number over samples: 0 if all samples are alike, though the tokens of two places need not be.
        spread = whole.std(dim=0).mean()
        return Loss(value, {"spread": spread}, features.pooled)

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        momentum = self.momentum + (1 - self.momentum) * ctx.progress
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.normalise == "layer":
            cause = "pretext.normalise=layer, what all patches of an image have in common is easily predicted"
            suspects.append(Suspect(cause, "pretext.normalise=instance", 0.5))
        return [*suspects, *suspect_momentum(self.momentum, 0.98)]
