"""Masked Autoencoders Are Scalable Vision Learners.

Kaiming He, Xinlei Chen, Saining Xie, Yanghao Li, Piotr Dollár, Ross Girshick. CVPR 2022, arXiv 2111.06377.

Differs: the default decoder is 128 wide and 2 deep and not 512 and 8, for small encoders and images. What it reads of
the whole image is the encoder's `pooled`, which is the paper's class token only if the encoder pools by one. The
variance of a target patch divides by the number of values and not by one less, so that a single value has one.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify, random_masks, unpatchify
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.transformer import Block, sine_cosine, take_tokens

Patches = Float[Tensor, "b m _"]  # of the hidden ones; the last axis is their pixels, or one number for all of them


class MAE(Pretext):
    """Reconstructs hidden patches from the few that the encoder is shown.

    `ratio` is the share of patches that is hidden; at least one is shown and one hidden. `width`, `depth` and `heads`
    are the decoder's, which is thrown away. `normalise` scales each target patch to zero mean and unit variance
    (section 3, "reconstruction target"). Raises ValueError for an encoder that cannot drop tokens or whose tokens are
    no patches, and for a width that `heads` or 4 does not divide.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.75,
        normalise: bool = True,
        width: Annotated[int, Ge(4)] = 128,
        depth: Count = 2,
        heads: Count = 4,
    ):
        super().__init__()
        if not encoder.in_two_steps:
            raise ValueError(f"{type(encoder).__name__} cannot drop tokens; use model=vit_tiny for masked methods")
        if width % heads or width % 4:
            raise ValueError(f"pretext.width={width} must be a multiple of 4 and pretext.heads={heads}; 128 and 4 do")
        channels, tall, wide = shape
        grid = grid_of(encoder, shape)
        if len(grid) != 2 or tall % grid[0] or wide % grid[1] or grid == (1, 1):
            raise ValueError(f"a grid of {grid} tokens cuts {tall}x{wide} px into no equal patches; set model.patch")
        self.encoder, self.augment = encoder, augment
        self.ratio, self.normalise = ratio, normalise
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, self.patch = grid, (tall // grid[0], wide // grid[1])
        self.tokens = grid[0] * grid[1]
        self.kept = min(max(round(self.tokens * (1 - ratio)), 1), self.tokens - 1)
        self.embed = nn.Linear(encoder.dim, width)
        self.embed_pooled = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(self.grid, width), persistent=False)
        self.decoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.patch[0] * self.patch[1] * channels))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, positions of the patches shown (B, k) and of those hidden (B, n - k)."""
        return self.augment(batch.x, ctx.rng), *random_masks(len(batch.x), self.tokens, self.kept, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, keep, masked = views
        features = self.encoder(x, keep)
        error = self.decode(features, keep, masked) - self.target(x, masked)[0]
        # "We compute the loss only on masked patches" (section 3)
        return Loss(error.square().mean(), {}, features.pooled)

    def decode(self, features: Features, keep: Int[Tensor, "b k"], masked: Int[Tensor, "b m"]) -> Patches:
        """The pixels of the hidden patches, from the tokens of the others."""
        shown = self.embed(features.tokens)  # (B, k, width)
        hidden = self.mask_token.to(shown.dtype).expand(len(shown), self.tokens, -1)
        tokens = hidden.scatter(1, keep[..., None].expand_as(shown), shown)  # (B, n, width)
        whole = self.embed_pooled(features.pooled)[:, None]  # (B, 1, width), at no position
        tokens = self.decoder(torch.cat([whole, tokens + self.positions], dim=1))[:, 1:]
        return self.predict(take_tokens(tokens, masked)).float()  # (B, n - k, patch pixels)

    def target(self, x: Float[Tensor, "b c h w"], masked: Int[Tensor, "b m"]) -> tuple[Patches, Patches, Patches]:
        """The hidden patches of the samples as the encoder normalises them, less an offset, over a scale; these two."""
        patches = take_tokens(patchify(self.encoder.normalise(x), self.patch), masked)  # (B, n - k, patch pixels)
        offset, scale = torch.zeros_like(patches[..., :1]), torch.ones_like(patches[..., :1])
        if self.normalise:
            offset = patches.mean(dim=2, keepdim=True)
            scale = (patches.var(dim=2, keepdim=True, correction=0) + 1e-6).sqrt()
        return (patches - offset) / scale, offset, scale

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        """What the encoder saw, and the same with the hidden patches filled in.

        If targets are normalised, the filling has each patch's true mean and variance, which the network is not asked
        for.
        """
        x, keep, masked = views
        prediction = self.decode(self.encoder(x, keep), keep, masked)
        _, offset, scale = self.target(x, masked)
        patches = patchify(self.encoder.normalise(x), self.patch)
        place = masked[..., None].expand(-1, -1, patches.shape[2])
        filled = unpatchify(patches.scatter(1, place, prediction * scale + offset), self.patch, self.grid)
        mean, std = self.encoder.mean.view(-1, 1, 1), self.encoder.std.view(-1, 1, 1)
        seen = unpatchify(patchify(x, self.patch).scatter(1, place, 0.5), self.patch, self.grid)
        return {"masked": seen, "reconstruction": (filled * std + mean).clamp(0, 1)}

    def suspects(self) -> Sequence[Suspect]:
        if self.ratio > 0.92:
            few = f"{self.kept} of {self.tokens} patches tell too little to predict from"
            return [Suspect(f"pretext.ratio={self.ratio:g}, {few}", "pretext.ratio=0.75", 0.6)]
        if self.ratio < 0.4:  # figure 5: what is missing can be filled in from its neighbours
            cause = f"pretext.ratio={self.ratio:g}, hidden patches can be copied from their neighbours"
            return [Suspect(cause, "pretext.ratio=0.75", 0.4)]
        return []
