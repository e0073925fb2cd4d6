"""Masked Autoencoders Are Scalable Vision Learners; of spectrograms: Masked Autoencoders that Listen (Audio-MAE).

Kaiming He, Xinlei Chen, Saining Xie, Yanghao Li, Piotr Dollár, Ross Girshick. CVPR 2022, arXiv 2111.06377.
Po-Yao Huang, Hu Xu, Juncheng Li, Alexei Baevski, Michael Auli, Wojciech Galuba, Florian Metze, Christoph Feichtenhofer.
NeurIPS 2022, arXiv 2207.06405.

Differs: the defaults are for small encoders, images and runs: 60 % of the patches are hidden and not 75, pixels are not
normalised by patch, and the decoder is 64 wide and 1 deep and not 512 and 8. What it reads of the whole image is the
encoder's `pooled`, which is the paper's class token only if the encoder pools by one. The variance of a target patch
divides by the number of values and not by one less, so that a single value has one. Of sound, of 80 % hidden in
Audio-MAE 60 are too, its decoder attends to all places and not to those near by, and padding is neither seen nor told.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patch_count, random_masks
from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Samples, Suspect
from ssl_runner.layers.image_encoder import patch_grid, require_tokens, spectrogram_grid
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.token_predictor import check_width
from ssl_runner.layers.transformer import Block, attention_mask, sine_cosine, take_tokens
from ssl_runner.loss.patch_pixels import Patches, patch_pictures, pixel_targets, spectrogram_pictures, suspect_ratio
from ssl_runner.loss.prediction import mean_of_clips


class MAE(Pretext):
    """Reconstructs hidden patches, of images or of the encoder's spectrograms, from the few that the encoder is shown.

    `ratio` is the share of patches that is hidden; at least one is shown and one hidden. `width`, `depth` and `heads`
    are the decoder's, which is thrown away. `normalise` scales each target patch to zero mean and unit variance
    (section 3, "reconstruction target"). Raises ValueError for an encoder that cannot drop tokens or whose tokens are
    no patches, and for a width that `heads` or 4 does not divide.
    """

    kinds = ("image", "audio")

    def __init__(
        self,
        *,
        encoder: Encoder,
        samples: Samples,
        augment: Recipe,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        normalise: bool = False,
        width: Annotated[int, Ge(4)] = 64,
        depth: Count = 1,
        heads: Count = 4,
    ):
        super().__init__()
        check_width(width, heads)
        self.encoder, self.augment = encoder, augment
        self.ratio, self.normalise = ratio, normalise
        self.width, self.depth, self.heads = width, depth, heads
        if samples.kind == "image":
            require_tokens(encoder)
            self.grid, self.patch = patch_grid(encoder, samples.shape, getattr(augment, "size", None))
            values = samples.shape[0] * self.patch[0] * self.patch[1]
        else:
            self.grid, self.patch = spectrogram_grid(encoder, samples.shape)
            values = self.patch[0] * self.patch[1]
        self.tokens = self.grid[0] * self.grid[1]
        self.kept = patch_count(self.tokens, 1 - ratio)
        self.embed = nn.Linear(encoder.dim, width)
        self.embed_pooled = nn.Linear(encoder.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(self.grid, width), persistent=False)
        self.decoder = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, values))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, positions of the patches shown (B, k) and of those hidden (B, n - k)."""
        x = self.augment(batch.x, ctx.rng)
        return x, *random_masks(len(x), self.tokens, self.kept, ctx.rng, real=self.encoder.real(x))

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, keep, masked = views
        real = self.encoder.real(x)  # None of images, which have no padding
        features = self.encoder(x, keep)
        error = (self.decode(features, keep, masked, real) - self.target(x, masked)[0]).square()
        # "We compute the loss only on masked patches" (section 3)
        value = error.mean() if real is None else mean_of_clips(error.mean(2), real.gather(1, masked))
        return Loss(value, {}, features.pooled)

    def decode(
        self, features: Features, keep: Int[Tensor, "b k"], masked: Int[Tensor, "b m"],
        real: Bool[Tensor, "b n"] | None = None
    ) -> Patches:  # fmt: skip
        """The pixels of the hidden patches, from the tokens of the others; none attends to padding."""
        shown = self.embed(features.tokens)  # (B, k, width)
        hidden = self.mask_token.to(shown.dtype).expand(len(shown), self.tokens, -1)
        tokens = hidden.scatter(1, keep[..., None].expand_as(shown), shown)  # (B, n, width)
        whole = self.embed_pooled(features.pooled)[:, None]  # (B, 1, width), at no position
        tokens, attended = torch.cat([whole, tokens + self.positions], dim=1), attention_mask(real, None, None, 1)
        for block in self.decoder:
            tokens = block(tokens, attended)
        return self.predict(take_tokens(tokens[:, 1:], masked)).float()  # (B, n - k, patch pixels)

    def target(self, x: Tensor, masked: Int[Tensor, "b m"]) -> tuple[Patches, Patches, Patches]:
        """The hidden patches of images or spectrograms as the encoder normalises them, less an offset, over a scale;
        these two."""
        return pixel_targets(self.encoder.normalise(x), masked, self.patch, self.normalise)

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        """What the encoder saw, and the same with the hidden patches filled in.

        If targets are normalised, the filling has each patch's true mean and variance, which the network is not asked
        for.
        """
        x, keep, masked = views
        _, offset, scale = self.target(x, masked)
        filling = self.decode(self.encoder(x, keep), keep, masked, self.encoder.real(x)) * scale + offset
        pictures = patch_pictures if x.ndim == 4 else spectrogram_pictures
        return pictures(self.encoder, x, masked, filling, self.patch, self.grid)

    def suspects(self) -> Sequence[Suspect]:
        return suspect_ratio(self.ratio, 0.6, 0.4, f"{self.kept} of {self.tokens} patches")
