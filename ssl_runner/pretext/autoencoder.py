"""Extracting and Composing Robust Features with Denoising Autoencoders.

Pascal Vincent, Hugo Larochelle, Yoshua Bengio, Pierre-Antoine Manzagol. ICML 2008; and Stacked Denoising Autoencoders,
with Isabelle Lajoie, JMLR 11, 2010.

Differs: it is convolutional and trained end to end; the paper stacks dense layers one by one. Masking blacks out whole
pixels, all channels. The damaged image is clamped to [0, 1]. The decoder ends in a sigmoid, and the loss is squared
error.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.decoder import Decoder
from ssl_runner.layers.ranges import NotNegative

Pair = tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]  # the damaged image and the clean one


class Autoencoder(Pretext):
    """Reconstructs each image from a damaged copy, decoded from the pooled features alone.

    Pooled, not tokens: what is probed afterwards is then the bottleneck that all the image must pass through, and a
    decoder that saw tokens could copy pixels past it.

    noise: standard deviation of Gaussian noise, in units of [0, 1]. mask: chance of a pixel to be black.
    augment comes before the damage, so the target is the augmented image.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, ...],
        augment: Views,
        noise: NotNegative = 0.1,
        mask: Annotated[float, Interval(ge=0, lt=1)] = 0.25,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.noise, self.mask = noise, mask
        size = shape[1:] if augment.size is None else (augment.size, augment.size)
        self.decoder = Decoder(encoder.dim, (shape[0], *size))

    def views(self, batch: Batch, ctx: Context) -> Pair:
        damaged = clean = self.augment(batch.x, ctx.rng)
        if self.noise > 0:
            damaged = damaged + self.noise * ctx.rng.randn(*clean.shape)
        if self.mask > 0:
            seen = ctx.rng.rand(*clean[:, :1].shape) >= self.mask  # (B, 1, H, W)
            damaged = damaged * seen
        return damaged.clamp(0, 1), clean

    def forward(self, views: Pair, group: str = "main") -> Loss:
        damaged, clean = views
        pooled = self.encoder(damaged).pooled
        value = F.mse_loss(self.decoder(pooled), clean)
        return Loss(value, {"psnr": -10 * value.detach().log10()}, pooled)  # decibels

    def pictures(self, views: Pair) -> Mapping[str, Float[Tensor, "b c h w"]]:
        damaged, clean = views
        return {"input": damaged, "reconstruction": self.decoder(self.encoder(damaged).pooled), "target": clean}

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.mask > 0.9:
            cause = f"pretext.mask={self.mask:g}, too few pixels are left to tell images apart"
            suspects.append(Suspect(cause, "pretext.mask=0.25", 0.6))
        if self.noise > 0.5:
            cause = f"pretext.noise={self.noise:g}, the images drown in it"
            suspects.append(Suspect(cause, "pretext.noise=0.1", 0.6))
        return suspects
