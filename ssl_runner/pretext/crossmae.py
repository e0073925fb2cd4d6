"""Rethinking Patch Dependence for Masked Autoencoders (CrossMAE).

Letian Fu, Long Lian, Renhao Wang, Baifeng Shi, Xudong Wang, Adam Yala, Trevor Darrell, Alexei A. Efros, Ken Goldberg.
TMLR 2025, arXiv 2401.14391.

Differs: the defaults are for small encoders, images and runs: 60 % of the patches are hidden and not 75, pixels are not
normalised by patch, and the decoder is 64 wide and 2 deep and not 512 and 12. It reads the last blocks of the encoder
and not all of them, the last one behind the encoder's norm, and neither its input nor a class token; a linear layer
brings them to its width. The variance of a target patch divides by the number of values and not by one less.
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
from ssl_runner.layers.image_encoder import patch_grid, require_layers, require_tokens
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.token_predictor import check_width
from ssl_runner.layers.transformer import CrossBlock, sine_cosine
from ssl_runner.loss.patch_pixels import Patches, patch_pictures, pixel_targets, suspect_ratio


class CrossMAE(Pretext):
    """Reconstructs some of the hidden patches, each by itself, from the few that the encoder is shown.

    ratio: share of patches that is hidden; at least one is shown and one hidden. predicted: share of patches that is
        reconstructed, of the hidden ones. normalise: each target patch to zero mean and unit variance.
    layers: last blocks of the encoder, of which each block of the decoder reads a learnt weighted sum.
    width, depth, heads: of the decoder, which is thrown away.
    Raises ValueError for an encoder that cannot drop tokens or whose tokens are no patches, or that has fewer blocks,
    and for a width that `heads` or 4 does not divide.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        predicted: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
        normalise: bool = False,
        layers: Count = 2,
        width: Annotated[int, Ge(4)] = 64,
        depth: Count = 2,
        heads: Count = 4,
    ):
        super().__init__()
        require_tokens(encoder)
        check_width(width, heads)
        self.encoder, self.augment = encoder, augment
        self.ratio, self.predicted, self.normalise, self.layers = ratio, predicted, normalise, layers
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        require_layers(encoder, torch.zeros(1, *shape), layers)
        self.tokens = self.grid[0] * self.grid[1]
        self.kept = patch_count(self.tokens, 1 - ratio)
        self.asked = min(max(round(self.tokens * predicted), 1), self.tokens - self.kept)
        self.shares = nn.Parameter(torch.randn(depth, layers) / layers**0.5)  # of each output, for each decoder block
        self.norms = nn.ModuleList(nn.LayerNorm(encoder.dim) for _ in range(depth))
        self.embed = nn.ModuleList(nn.Linear(encoder.dim, width) for _ in range(depth))
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(self.grid, width), persistent=False)
        self.decoder = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.patch[0] * self.patch[1] * shape[0]))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, positions of the patches shown (B, k), hidden (B, n - k) and, of these, asked for (B, m)."""
        keep, masked = random_masks(len(batch.x), self.tokens, self.kept, ctx.rng)
        return self.augment(batch.x, ctx.rng), keep, masked, masked[:, : self.asked]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, keep, _, asked = views
        features = self.encode(x, keep)
        target, _, _ = pixel_targets(self.encoder.normalise(x), asked, self.patch, self.normalise)
        return Loss((self.decode(features, asked) - target).square().mean(), {}, features.pooled)

    def encode(self, x: Float[Tensor, "b c h w"], keep: Int[Tensor, "b k"]) -> Features:
        return self.encoder.encode(self.encoder.embed(x), keep=keep, layers=range(-self.layers, -1))

    def decode(self, features: Features, asked: Int[Tensor, "b m"]) -> Patches:
        """The pixels of patches, none of which depends on which others are asked for: they do not see each other."""
        outputs = torch.stack([*features.layers, features.tokens])  # (layers, B, k, d)
        x = self.mask_token + self.positions[asked]  # (B, m, width)
        for shares, norm, embed, block in zip(self.shares, self.norms, self.embed, self.decoder, strict=True):
            x = block(x, embed(norm(torch.einsum("l,lbkd->bkd", shares, outputs))))
        return self.predict(x).float()  # (B, m, patch pixels)

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        """What the encoder saw, and the same with all hidden patches filled in, as in MAE."""
        x, keep, masked, _ = views
        _, offset, scale = pixel_targets(self.encoder.normalise(x), masked, self.patch, self.normalise)
        filling = self.decode(self.encode(x, keep), masked) * scale + offset
        return patch_pictures(self.encoder, x, masked, filling, self.patch, self.grid)

    def suspects(self) -> Sequence[Suspect]:
        return suspect_ratio(self.ratio, 0.6, 0.4, f"{self.kept} of {self.tokens} patches")
