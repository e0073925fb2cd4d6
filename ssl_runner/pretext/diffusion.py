"""Deconstructing Denoising Diffusion Models for Self-Supervised Learning (latent denoising autoencoder, l-DAE).

Xinlei Chen, Zhuang Liu, Saining Xie, Kaiming He. ICLR 2025, arXiv 2401.14404. A relative that probes diffusion models
themselves: W. Xiang, H. Yang, D. Huang, Y. Wang, "Denoising Diffusion Autoencoders are Unified Self-supervised
Learners", ICCV 2023, arXiv 2303.09769.

Differs: the encoder does not know the noise level, so that it is one as any other; the decoder does, as a vector added
to its tokens, where the paper has adaptive layer norms in both. By default noise is of pixels: patches of small images
have about as few numbers as the paper's components. The decoder is narrow and shallow, and the paper's as deep as the
encoder; it sees pooled features as well as tokens, so that what evaluators read has a loss.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.image_encoder import patch_grid
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.layers.token_predictor import TokenDecoder

Image = Float[Tensor, "b c h w"]
Patches = Float[Tensor, "b n p"]  # in the encoder's units, or their components
Noised = tuple[Image, Float[Tensor, "b n d"], Float[Tensor, " b"]]
BEYOND = 0.1  # weight of errors in components that have no noise


class Diffusion(Pretext):
    """Reconstructs a clean image from one with noise of a random level.

    sigma: standard deviation of the strongest noise, in the encoder's units, in which pixels have variance 1; levels
        are uniform in [0, sigma].
    components: principal ones of a patch that have the noise, and that alone are shown; None: noise is of pixels.
    width, depth, heads: of the decoder, which is thrown away.
    Raises ValueError for an encoder whose tokens are no patches, for more components than a patch has numbers, and for
    a width that `heads` or 4 does not divide.
    """

    basis: Tensor  # (p, p): a component in each row, the largest first

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        sigma: Positive = 1.0,
        components: Count | None = None,
        width: Annotated[int, Ge(4)] = 64,
        depth: Count = 1,
        heads: Count = 4,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.sigma, self.components = sigma, components
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        numbers = math.prod(self.patch) * shape[0]
        if components is not None and components > numbers:
            raise ValueError(f"pretext.components={components}, and a patch has {numbers} numbers; type null for all")
        self.noised = components or numbers
        self.register_buffer("basis", torch.eye(numbers))
        self.embed_level = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))
        self.decoder = TokenDecoder(encoder.dim, self.grid, numbers, width=width, depth=depth, heads=heads)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0 and self.components is not None:
            moment = torch.zeros_like(self.basis)
            for x, _ in ctx.sweep():
                patches = self.patches(self.augment(x, ctx.rng)).flatten(0, 1)
                moment += patches.T @ patches
            vectors = torch.linalg.eigh(moment.cpu().double()).eigenvectors.T.flip(0)
            self.basis.copy_(vectors)
            self.basis.copy_(gather(self.basis)[: len(vectors)])  # the first rank's: a sign is anyone's

    def patches(self, x: Image) -> Patches:
        return patchify(self.encoder.normalise(x), self.patch)

    def image(self, patches: Patches) -> Image:
        mean, std = self.encoder.mean.view(-1, 1, 1), self.encoder.std.view(-1, 1, 1)
        return unpatchify(patches, self.patch, self.grid) * std + mean

    def views(self, batch: Batch, ctx: Context) -> Noised:
        """Samples, noise of each component of each patch, and its standard deviation (B,)."""
        count = len(batch.x)
        noise = ctx.rng.randn(count, math.prod(self.grid), self.noised)
        return self.augment(batch.x, ctx.rng), noise, self.sigma * ctx.rng.rand(count)

    def forward(self, views: Noised, group: str = "main") -> Loss:
        x, _, level = views
        with torch.autocast(x.device.type, enabled=False):
            clean, noisy = self.patches(x), self.add_noise(*views)
        features = self.encoder(self.image(noisy))
        predicted = self.denoise(features, level)
        with torch.autocast(x.device.type, enabled=False):
            error = ((predicted - clean) @ self.basis.T).square()  # (B, n, p), by component
            weight = torch.where(torch.arange(error.shape[2], device=x.device) < self.noised, 1.0, BEYOND)
            value = ((weight * error).mean((1, 2)) / (1 + level.square())).mean()
        gain = (noisy - clean).square().mean() / error.detach().mean()
        return Loss(value, {"psnr_gain": 10 * gain.log10()}, features.pooled)  # decibels

    def add_noise(self, x: Image, noise: Float[Tensor, "b n d"], level: Float[Tensor, " b"]) -> Patches:
        """The noised components of the patches, mapped back."""
        basis = self.basis[: self.noised]
        return (self.patches(x) @ basis.T + level[:, None, None] * noise) @ basis

    def denoise(self, features: Features, level: Float[Tensor, " b"]) -> Patches:
        told = self.embed_level(level[:, None] / self.sigma)[:, None]  # (B, 1, width)
        return self.decoder(features.tokens, features.pooled, told).float()

    def pictures(self, views: Noised) -> Mapping[str, Image]:
        noisy = self.image(self.add_noise(*views))
        denoised = self.image(self.denoise(self.encoder(noisy), views[2]))
        return {"noisy": noisy.clamp(0, 1), "denoised": denoised.clamp(0, 1), "target": views[0]}

    def suspects(self) -> Sequence[Suspect]:
        if self.sigma > 4:
            cause = f"pretext.sigma={self.sigma:g}, most images drown in noise"
            return [Suspect(cause, "pretext.sigma=1", 0.6)]
        return []
