"""BEiT: BERT Pre-Training of Image Transformers.

Hangbo Bao, Li Dong, Songhao Piao, Furu Wei. ICLR 2022, arXiv 2106.08254.

Differs: the codes are those of k-means on patches of the training rows, which needs no other model, and not of a
discrete autoencoder; 256 of them and not 8192. The mask's smallest block is 4 patches of a small grid and not 16 of
196. There is no stochastic depth and no jitter of colours.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.block_mask import block_masks
from ssl_runner.augment.image.mask import patch_count, patchify
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.image_encoder import patch_grid, require_tokens
from ssl_runner.layers.patch_codes import PatchCodes
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.transformer import hide_tokens, take_tokens
from ssl_runner.loss.patch_pixels import patch_pictures, suspect_ratio
from ssl_runner.loss.sinkhorn import perplexity


class BEiT(Pretext):
    """Predicts the codes of hidden patches, which a tokenizer makes of pixels before training begins.

    ratio: share of patches that is hidden, in blocks of `block` patches or more; at least one is hidden and one shown.
    codes: that a patch may have. sample: patches of the training rows, about, that their centroids are made of.
    iterations: of k-means. colour: whether a code tells the mean colour of a patch; else it is taken off before.
    Raises ValueError for an encoder that cannot hide tokens or whose tokens are no patches.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        rows: int,
        augment: Views,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.4,
        block: Count = 4,
        codes: Annotated[int, Ge(2)] = 256,
        sample: Count = 65536,
        iterations: Count = 10,
        colour: bool = False,
    ):
        super().__init__()
        require_tokens(encoder)
        self.encoder, self.augment = encoder, augment
        self.ratio, self.block = ratio, block
        self.codes, self.sample, self.iterations, self.colour = codes, sample, iterations, colour
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        self.tokens = self.grid[0] * self.grid[1]
        self.hidden = patch_count(self.tokens, ratio)
        # Of every row a few patches, or of every so manieth row one.
        self.of_each, self.stride = min(self.tokens, -(-sample // rows)), max(1, rows // sample)
        self.token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.tokenizer = PatchCodes(self.patch[0] * self.patch[1] * shape[0], codes)
        self.predict = nn.Linear(encoder.dim, codes)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and positions of the patches hidden (B, m)."""
        _, masked = block_masks(len(batch.x), self.grid, self.hidden, ctx.rng, smallest=self.block)
        return self.augment(batch.x, ctx.rng), masked

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, masked = views
        target = self.tokenizer(take_tokens(self.patches(x), masked)).flatten()  # (B m,)
        features = self.encode(x, masked)
        logits = self.predict(take_tokens(features.tokens, masked)).float().flatten(0, 1)  # (B m, codes)
        accuracy = (logits.argmax(dim=1) == target).float().mean()
        metrics = {"accuracy": accuracy, "perplexity": perplexity(logits.softmax(dim=1))}
        return Loss(F.cross_entropy(logits, target), metrics, features.pooled)

    def encode(self, x: Float[Tensor, "b c h w"], masked: Int[Tensor, "b m"]) -> Features:
        return self.encoder.encode(hide_tokens(self.encoder.embed(x), masked, self.token))

    def patches(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """What the tokenizer is shown: pixels in the encoder's units, of which the mean colour is taken off."""
        patches = patchify(self.encoder.normalise(x), self.patch)  # (B, n, d), pixel after pixel
        if self.colour:
            return patches
        pixels = patches.unflatten(2, (self.patch[0] * self.patch[1], -1))
        return (pixels - pixels.mean(dim=2, keepdim=True)).flatten(2)

    def before_step(self, ctx: Context) -> None:
        """At the first step the centroids are made, of views of the training rows."""
        if ctx.step > 0:
            return
        parts = []
        for batch in ctx.sweep():
            x = batch.x[batch.index % self.stride == 0]
            if not len(x):
                continue
            patches = self.patches(self.augment(x, ctx.rng))
            chosen = ctx.rng.rand(*patches.shape[:2]).argsort(dim=1)[:, : self.of_each]
            parts.append(take_tokens(patches, chosen).flatten(0, 1))
        self.tokenizer.fit(torch.cat(parts), self.iterations, ctx.rng)

    def pictures(self, views: tuple) -> Mapping[str, Float[Tensor, "b c h w"]]:
        """The images with their hidden patches in grey, and filled with what the codes predicted stand for."""
        x, masked = views
        codes = self.predict(take_tokens(self.encode(x, masked).tokens, masked)).argmax(dim=2)
        return patch_pictures(self.encoder, x, masked, self.tokenizer.patches(codes), self.patch, self.grid)

    def suspects(self) -> Sequence[Suspect]:
        shown = f"{self.tokens - self.hidden} of {self.tokens} patches"
        return suspect_ratio(self.ratio, 0.4, 0.2, shown)
