"""data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language; for all three.

Alexei Baevski, Wei-Ning Hsu, Qiantong Xu, Arun Babu, Jiatao Gu, Michael Auli. ICML 2022, arXiv 2202.03555.

Differs: outputs of blocks are normalised over the tokens of a sample, as the authors do for sound, and for all three in
data2vec 2.0 (ICML 2023, arXiv 2212.07525), and not over the numbers of a token. The defaults suit small images and
short runs (targets of 2 blocks and not 6, momentum 0.97 to 0.99 and not 0.9998). There is no stochastic depth, and the
mask's smallest block is 4 patches of a small grid and not 16 of 196. Text and sound have the targets, the loss and the
head of images; the authors take what the last layer of a block adds and not its output, do not normalise the mean of
blocks, and square all errors of sound. Spans of tokens are hidden there, always behind the learnt vector (the paper has
BERT's random words), and each sample has the same weight, however long it is.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssl_runner.augment.audio.spans import hidden_spans
from ssl_runner.augment.image.block_mask import block_masks
from ssl_runner.augment.image.mask import patch_count
from ssl_runner.augment.recipe import Recipe
from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy, suspect_momentum
from ssl_runner.layers.image_encoder import patch_grid, require_layers, require_tokens
from ssl_runner.layers.ranges import Count, NotNegative, Share
from ssl_runner.layers.schedule import ramp
from ssl_runner.layers.transformer import hide_tokens, normalise_tokens, take_tokens
from ssl_runner.loss.prediction import mean_of_clips

THIRTY_PERCENT = Duration(30.0, "%")


class Data2Vec(Pretext):
    """Predicts, for hidden tokens, the mean output of a teacher's last blocks on the whole sample.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved.

    ratio: share of patches that is hidden, in blocks of `block` patches or more; at least one is hidden and one shown.
        Of text and sound spans of `block` tokens, see `hidden_spans`.
    layers: the last blocks of the teacher that targets are the mean of. normalise: each block's output over the numbers
        of a token (layer), or each number over the tokens of a sample (instance), which takes from the targets what all
        tokens of a sample have in common. beta: error up to which the loss is squared;
        at 0 it is the absolute error.
    momentum: share of itself that the teacher keeps; from `first_momentum`, reached along a line during `ramp`.
    Raises ValueError for an encoder that cannot hide tokens or whose tokens are no patches, or that has fewer blocks.
    """

    kinds = ("image", "audio", "text")

    def __init__(
        self,
        *,
        encoder: Encoder,
        samples: Samples,
        augment: Recipe,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        block: Count = 4,
        layers: Count = 2,
        normalise: Literal["layer", "instance"] = "instance",
        beta: NotNegative = 2.0,
        momentum: Share = 0.99,
        first_momentum: Share = 0.97,
        ramp: Duration = THIRTY_PERCENT,
    ):
        super().__init__()
        require_tokens(encoder)
        self.encoder, self.augment = encoder, augment
        self.ratio, self.block, self.layers, self.normalise, self.beta = ratio, block, layers, normalise, beta
        self.momentum, self.first_momentum, self.ramp = momentum, first_momentum, ramp
        self.of_patches = samples.kind == "image"
        if self.of_patches:
            self.grid, _ = patch_grid(encoder, samples.shape, getattr(augment, "size", None))
            self.hidden = patch_count(self.grid[0] * self.grid[1], ratio)
        require_layers(encoder, samples.example(1, torch.Generator().manual_seed(0)), layers)
        self.token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.predict = nn.Linear(encoder.dim, encoder.dim)
        self.teacher_encoder = frozen_copy(self.encoder).eval()

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and positions of the patches hidden (B, m), or which tokens are (B, n)."""
        if self.of_patches:
            _, masked = block_masks(len(batch.x), self.grid, self.hidden, ctx.rng, smallest=self.block)
            return self.augment(batch.x, ctx.rng), masked
        x = self.augment(batch.x, ctx.rng)
        hidden = hidden_spans(self.encoder.real(x), self.ratio, self.block, ctx.rng)
        width = None if x.is_floating_point() else width_of(x)  # of ids: a token each
        return x[..., :width], hidden[:, :width]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if not self.of_patches:
            return self.forward_sequence(*views)
        x, masked = views
        mean = self.mean_of_blocks(x)  # (B, n, d)
        target = F.layer_norm(take_tokens(mean, masked), mean.shape[-1:])  # (B, m, d)
        features = self.encoder.encode(hide_tokens(self.encoder.embed(x), masked, self.token))
        predicted = self.predict(take_tokens(features.tokens, masked)).float()
        value = F.smooth_l1_loss(predicted, target, beta=self.beta)
        # Of each number over samples: 0 if all samples are alike, though the targets of two places need not be.
        spread = mean.std(dim=0).mean()
        return Loss(value, {"spread": spread}, features.pooled)

    def forward_sequence(self, x: Tensor, hidden: Bool[Tensor, "b n"]) -> Loss:
        """The same of rows of unequal length: padding is no target, and none of what is normalised."""
        real, z = self.encoder.real(x), self.encoder.embed(x)
        mean = self.mean_of_blocks(x, real)  # (B, n, d)
        target = F.layer_norm(mean, mean.shape[-1:])
        features = self.encoder.encode(torch.where(hidden[..., None], self.token.to(z.dtype), z), mask=real)
        predicted = self.predict(features.tokens).float()
        error = F.smooth_l1_loss(predicted, target, beta=self.beta, reduction="none").mean(2)
        weight = real[..., None] / real.sum().clamp(min=1)
        centred = mean - (mean * weight).sum((0, 1))
        spread = (centred.square() * weight).sum((0, 1)).sqrt().mean()  # of each number over all tokens
        return Loss(mean_of_clips(error, hidden), {"spread": spread}, features.pooled)

    @torch.no_grad()
    def mean_of_blocks(self, x: Tensor, real: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        """The mean of the outputs of the teacher's last blocks, each normalised without scale and shift."""
        teacher = self.teacher_encoder
        outputs = teacher.encode(teacher.embed(x), layers=range(-self.layers, 0), mask=real).layers
        return torch.stack([normalise_tokens(each, self.normalise, real) for each in outputs]).mean(dim=0)

    def momentum_at(self, ctx: Context) -> float:
        """The teacher's momentum at a step: a line during the ramp, then constant."""
        return ramp(self.first_momentum, self.momentum, self.ramp, ctx)

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        follow(self.teacher_encoder, self.encoder, self.momentum_at(ctx), copy_buffers=False)

    def train(self, mode: bool = True) -> "Data2Vec":
        """The teacher stays in evaluation mode: dropout in targets is noise that nothing can predict."""
        super().train(mode)
        self.teacher_encoder.eval()
        return self

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.normalise == "layer":
            cause = "pretext.normalise=layer, what all tokens of a sample have in common is easily predicted"
            suspects.append(Suspect(cause, "pretext.normalise=instance", 0.5))
        name = "first_momentum" if self.first_momentum < 0.9 else "momentum"
        return [*suspects, *suspect_momentum(getattr(self, name), 0.97, name)]
