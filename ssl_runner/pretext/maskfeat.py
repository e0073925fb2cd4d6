"""Masked Feature Prediction for Self-Supervised Visual Pre-Training (MaskFeat).

Chen Wei, Haoqi Fan, Saining Xie, Chao-Yuan Wu, Alan Yuille, Christoph Feichtenhofer. CVPR 2022, arXiv 2112.09133.

Differs: a cell is as large as a patch, where the paper has four in one of 16 px. Histograms of cells that are nearly
flat are short, where they have unit length in the paper, whose direction is that of noise. A gradient votes for the two
orientations next to it, as in HOG's paper, and the smallest block is 4 patches of a small grid and not 16 of 196. An
encoder that cannot hide tokens, as a convolutional one, sees hidden pixels in one learnt colour.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.block_mask import block_masks
from ssl_runner.augment.image.mask import patch_count
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.image_encoder import patch_grid
from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.loss.hog import hog
from ssl_runner.loss.patch_pixels import encode_shown, hiding_token, suspect_ratio


class MaskFeat(Pretext):
    """Predicts the histograms of oriented gradients of hidden patches, which a learnt token stands for.

    ratio: share of patches that is hidden, in blocks of `block` patches or more; at least one is hidden and one shown.
    cell: side in pixels of what a histogram is of; it divides the patch, which it is if None. bins: orientations of 180
        degrees. epsilon: added to the length of a histogram, in pixel values from 0 to 1, see `hog`.
    shown: weight of the mean error at shown patches, which the paper leaves out, beside that at hidden ones.
    Raises ValueError for an encoder whose tokens are no patches, and for a cell that does not divide them.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.4,
        block: Count = 4,
        cell: Count | None = None,
        bins: Annotated[int, Ge(2)] = 9,
        epsilon: Positive = 0.1,
        shown: NotNegative = 0.0,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.ratio, self.block, self.bins, self.epsilon, self.shown = ratio, block, bins, epsilon, shown
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        tall, wide = self.patch
        self.cell = cell = math.gcd(tall, wide) if cell is None else cell
        if tall % cell or wide % cell:
            raise ValueError(
                f"pretext.cell={cell} does not divide patches of {tall}x{wide} px; type pretext.cell={tall}"
            )
        self.tokens = self.grid[0] * self.grid[1]
        self.hidden = patch_count(self.tokens, ratio)
        self.token = hiding_token(encoder, shape[0])
        self.predict = nn.Linear(encoder.dim, (tall // cell) * (wide // cell) * shape[0] * bins)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and positions of the patches hidden (B, m)."""
        _, masked = block_masks(len(batch.x), self.grid, self.hidden, ctx.rng, smallest=self.block)
        return self.augment(batch.x, ctx.rng), masked

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, masked = views
        features = self.encode(x, masked)
        error = (self.predict(features.tokens).float() - self.target(x)).square().mean(2)  # (B, n)
        value = error.gather(1, masked).mean()
        if self.shown:
            value = value + self.shown * error.scatter(1, masked, 0.0).sum(1).mean() / (self.tokens - self.hidden)
        return Loss(value, {}, features.pooled)

    def encode(self, x: Float[Tensor, "b c h w"], masked: Int[Tensor, "b m"]) -> Features:
        return encode_shown(self.encoder, x, masked, self.token, self.patch, self.grid)

    def target(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        with torch.autocast(x.device.type, enabled=False):
            return hog(x, self.grid, self.cell, self.bins, self.epsilon)

    def suspects(self) -> Sequence[Suspect]:
        return suspect_ratio(self.ratio, 0.4, 0.1, f"{self.tokens - self.hidden} of {self.tokens} patches")
