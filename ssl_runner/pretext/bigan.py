"""Adversarial Feature Learning (bidirectional GAN).

Jeff Donahue, Philipp Krähenbühl, Trevor Darrell. ICLR 2017, arXiv 1605.09782. The same game is that of Adversarially
Learned Inference, Dumoulin et al., ICLR 2017, arXiv 1606.00704.

Differs: codes are drawn from a standard normal as in the second paper, and not uniformly. The discriminator has no
batch norm, so that encoded and generated pairs can go through it together without a look at each other; spectral norm
keeps its weights in bounds instead (Miyato et al., ICLR 2018, arXiv 1802.05957).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.decoder import Decoder
from ssl_runner.layers.ranges import Count


class Discriminator(nn.Module):
    """Logits that an image and a code are a sample and its encoding, and not a code and what was generated from it.

    Strided convolutions halve the image to about 4 px, the first `width` channels wide; the code joins after them.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int):
        super().__init__()
        channels, tall, wide = shape
        layers: list[nn.Module] = []
        for halving in range(max(1, round(math.log2(min(tall, wide) / 4)))):
            out = width * 2 ** min(halving, 3)
            layers += [spectral_norm(nn.Conv2d(channels, out, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            channels, tall, wide = out, tall // 2, wide // 2
        joint = 4 * width
        # Spectral norm divides weights by an estimate in buffers, which each pass in training mode refines.
        self.image = nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(channels * tall * wide, joint)))
        self.code = spectral_norm(nn.Linear(latent, joint))
        hidden, logit = spectral_norm(nn.Linear(2 * joint, joint)), spectral_norm(nn.Linear(joint, 1))
        self.joint = nn.Sequential(nn.LeakyReLU(0.2), hidden, nn.LeakyReLU(0.2), logit)

    def forward(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        return self.joint(torch.cat([self.image(2 * x - 1), self.code(z)], dim=1)).squeeze(1)  # (B,)


class BiGAN(Pretext):
    """An encoder and a generator learn to be each other's inverse, as no discriminator tells their pairs apart.

    `latent` is the width of a code, `width` that of the discriminator's first layer. Optimizers step in this order:
    `discriminator`, `generator_encoder`. When the game is at its end, the discriminator's loss is 2 log 2 (theorem 1).
    """

    def __init__(
        self, *, encoder: Encoder, shape: tuple[int, int, int], augment: Views, latent: Count = 64, width: Count = 64
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.latent, self.width = latent, width
        self.code = nn.Linear(encoder.dim, latent)
        self.generator = Decoder(latent, shape)  # to [0, 1]
        self.discriminator = Discriminator(shape, latent, width)

    def groups(self) -> Mapping[str, list[tuple[str, nn.Parameter]]]:
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {"discriminator": [], "generator_encoder": []}
        for name, p in super().groups()["main"]:
            groups["discriminator" if name.startswith("discriminator.") else "generator_encoder"].append((name, p))
        return groups

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and codes from the prior (B, latent)."""
        x = self.augment(batch.x, ctx.rng)
        return x, ctx.rng.randn(len(x), self.latent)

    def forward(self, views: tuple, group: str = "discriminator") -> Loss:
        return self.discriminate(*views) if group == "discriminator" else self.generate_encode(*views)

    def discriminate(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Loss:
        """-V of equation 3: high logits to (x, E(x)), low ones to (G(z), z)."""
        with torch.no_grad():
            image, code = self.generator(z), self.code(self.encoder(x).pooled)
        encoded, generated = self.discriminator(torch.cat([x, image]), torch.cat([code, z])).float().chunk(2)
        value = softplus(-encoded).mean() + softplus(generated).mean()
        accuracy = ((encoded > 0).float().mean() + (generated < 0).float().mean()) / 2
        return Loss(value, {"accuracy": accuracy})

    def generate_encode(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Loss:
        """The same with the labels exchanged, which has gradient when V saturates (section 3.4)."""
        pooled = self.encoder(x).pooled  # (B, dim)
        image, code = self.generator(z), self.code(pooled)
        # Detached weights: gradient flows through the discriminator and none is computed for it.
        judge = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        pairs = torch.cat([x, image]), torch.cat([code, z])
        encoded, generated = functional_call(self.discriminator, judge, pairs).float().chunk(2)
        value = softplus(encoded).mean() + softplus(-generated).mean()
        return Loss(value, {"code_std": code.detach().float().std()}, pooled)

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        x, z = views
        return {"samples": self.generator(z), "reconstruction": self.generator(self.code(self.encoder(x).pooled))}

    def suspects(self) -> Sequence[Suspect]:
        if self.latent < 8:
            return [Suspect(f"pretext.latent={self.latent}, codes of few numbers", "pretext.latent=64", 0.5)]
        return []
