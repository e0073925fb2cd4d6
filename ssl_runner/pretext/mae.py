"""Masked Autoencoders Are Scalable Vision Learners.

Kaiming He, Xinlei Chen, Saining Xie, Yanghao Li, Piotr Dollár, Ross Girshick. CVPR 2022, arXiv 2111.06377.

Differs: the defaults are for small encoders, images and runs: 60 % of the patches are hidden and not 75, pixels are not
normalised by patch, and the decoder is 64 wide and 1 deep and not 512 and 8. What it reads of the whole image is the
encoder's `pooled`, which is the paper's class token only if the encoder pools by one. The variance of a target patch
divides by the number of values and not by one less, so that a single value has one.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patch_count, random_masks
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.image_encoder import patch_grid, require_tokens
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.token_predictor import check_width
from ssl_runner.layers.transformer import Block, sine_cosine, take_tokens
from ssl_runner.loss.patch_pixels import Patches, patch_pictures, pixel_targets, suspect_ratio


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
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        normalise: bool = False,
        width: Annotated[int, Ge(4)] = 64,
        depth: Count = 1,
        heads: Count = 4,
    ):
        super().__init__()
        require_tokens(encoder)
        check_width(width, heads)
        self.encoder, self.augment = encoder, augment
        self.ratio, self.normalise = ratio, normalise
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        self.tokens = self.grid[0] * self.grid[1]
        self.kept = patch_count(self.tokens, 1 - ratio)
        self.embed = nn.Linear(encoder.dim, width)
        self.embed_pooled = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(self.grid, width), persistent=False)
        self.decoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.patch[0] * self.patch[1] * shape[0]))

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
        return pixel_targets(self.encoder.normalise(x), masked, self.patch, self.normalise)

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        """What the encoder saw, and the same with the hidden patches filled in.

        If targets are normalised, the filling has each patch's true mean and variance, which the network is not asked
        for.
        """
        x, keep, masked = views
        _, offset, scale = self.target(x, masked)
        filling = self.decode(self.encoder(x, keep), keep, masked) * scale + offset
        return patch_pictures(self.encoder, x, masked, filling, self.patch, self.grid)

    def suspects(self) -> Sequence[Suspect]:
        return suspect_ratio(self.ratio, 0.6, 0.4, f"{self.kept} of {self.tokens} patches")
