"""Neural Discrete Representation Learning (vector-quantised variational autoencoder, VQ-VAE).

Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu. NeurIPS 2017, arXiv 1711.00937.

Differs: codes are moving averages of their tokens (appendix A.1), which start by k-means and are restarted if few
tokens are near. The encoder is any that has tokens; a linear layer maps them to codes, and its pooled features are what
is measured. The defaults are for small images and short runs: 256 codes and not 512, momentum 0.98 and not 0.99.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.codebook import Tokeniser
from ssl_runner.layers.decoder import MapDecoder
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.layers.ranges import Count, NotNegative, Share

Image = Float[Tensor, "b c h w"]
FIRST_TOKENS = 32  # a code, of the k-means that codes start with


class VQVAE(Pretext):
    """Replaces each token of an image by its nearest code, and decodes the image from the codes.

    codes: how many there are. dim: numbers of a code.
    commitment: weight of the distance of tokens from their codes, beta in the paper.
    momentum: share of itself that a code keeps in a step.
    restart: codes with fewer tokens than this share of what codes have on average become tokens of the step; 0: none.
    width: of the decoder.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        rows: int,
        augment: Views,
        codes: Annotated[int, Ge(2)] = 256,
        dim: Count = 64,
        commitment: NotNegative = 0.25,
        momentum: Share = 0.98,
        restart: Share = 0.05,
        width: Annotated[int, Ge(16)] = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.codes, self.dim, self.commitment = codes, dim, commitment
        self.momentum, self.restart, self.width = momentum, restart, width
        size = (augment.size, augment.size) if augment.size else shape[1:]
        grid = grid_of(encoder, (shape[0], *size))
        self.first_images = math.ceil(FIRST_TOKENS * codes / math.prod(grid)) / rows  # as a share of all
        self.tokeniser = Tokeniser(encoder.dim, codes, dim, momentum, restart)
        self.decoder = MapDecoder(dim, grid, shape[0], size, width)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0:
            tokens = [self.tokenise_some(x, ctx) for x, _ in ctx.sweep()]
            self.tokeniser.codebook.start(torch.cat(tokens), ctx.rng)

    def tokenise_some(self, x: Image, ctx: Context) -> Float[Tensor, "n d"]:
        """Tokens of views of the first images of a part of the training set, before they are replaced."""
        few = x[: max(2, math.ceil(self.first_images * len(x)))]
        return self.tokeniser(self.encoder(self.augment(few, ctx.rng)).tokens)[0].flatten(0, 1)

    def views(self, batch: Batch, ctx: Context) -> tuple[Image]:
        return (self.augment(batch.x, ctx.rng),)

    def forward(self, views: tuple[Image], group: str = "main") -> Loss:
        (x,) = views
        features = self.encoder(x)
        z, ids = self.tokeniser(features.tokens)  # (B, n, dim), (B, n)
        codes = self.tokeniser.codebook.codes[ids]
        # The gradient of the decoder's input is handed on to the encoder (section 3.2).
        error = (self.decode(z + (codes - z).detach()) - x).square().mean((0, 2, 3))  # (C,)
        distance = (z - codes).square().mean()
        value = (error / self.encoder.std.square()).mean() + self.commitment * distance  # equation 3
        metrics = {
            "psnr": -10 * error.detach().mean().log10(),  # decibels
            "distance": distance.detach(),
            "perplexity": self.tokeniser.codebook.perplexity(),
        }
        kept = {"tokens": z.detach().flatten(0, 1), "ids": ids.flatten()}
        return Loss(value, metrics, features.pooled, kept)

    def decode(self, codes: Float[Tensor, "b n d"]) -> Image:
        return self.decoder(codes).sigmoid()

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.tokeniser.codebook.update(kept["tokens"], kept["ids"], ctx.rng)

    def pictures(self, views: tuple[Image]) -> Mapping[str, Image]:
        _, ids = self.tokeniser(self.encoder(views[0]).tokens)
        return {"reconstruction": self.decode(self.tokeniser.codebook.codes[ids]), "target": views[0]}

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.restart == 0:
            cause = "pretext.restart=0, codes that no token is near are lost for good"
            suspects.append(Suspect(cause, "pretext.restart=0.05", 0.4))
        if self.commitment > 4:
            cause = f"pretext.commitment={self.commitment:g}, tokens draw together at few codes"
            suspects.append(Suspect(cause, "pretext.commitment=0.25", 0.7))
        return suspects
