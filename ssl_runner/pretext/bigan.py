"""Adversarial Feature Learning (bidirectional GAN).

Jeff Donahue, Philipp Krähenbühl, Trevor Darrell. ICLR 2017, arXiv 1605.09782. The same game is that of Adversarially
Learned Inference, Dumoulin et al., ICLR 2017, arXiv 1606.00704.

The hinge loss and the scores of an image alone and of a code alone are those of BigBiGAN: Jeff Donahue, Karen Simonyan,
"Large Scale Adversarial Representation Learning", NeurIPS 2019, arXiv 1907.02544. That an encoding must also decode to
its image is ALICE's: Chunyuan Li et al., "ALICE: Towards Understanding Adversarial Learning for Joint Distribution
Matching", NeurIPS 2017, arXiv 1709.01215.

Differs: codes are drawn from a standard normal as in the second paper, and not uniformly. The discriminator has no
batch norm, so that encoded and generated pairs can go through it together without a look at each other; spectral norm
keeps its weights in bounds instead (Miyato et al., ICLR 2018, arXiv 1802.05957).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.decoder import Decoder
from ssl_runner.layers.ranges import Count, NotNegative


class Discriminator(nn.Module):
    """Logits that an image and a code are a sample and its encoding, and not a code and what was generated from it.

    Strided convolutions halve the image to about 4 px, the first `width` channels wide; the code joins after them.
    `unary`: beside the pair, the image alone and the code alone have a logit, and none has a bias.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int, unary: bool = False):
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
        hidden = spectral_norm(nn.Linear(2 * joint, joint))
        logit = spectral_norm(nn.Linear(joint, 1, bias=not unary))
        self.joint = nn.Sequential(nn.LeakyReLU(0.2), hidden, nn.LeakyReLU(0.2), logit)
        each = [
            nn.Sequential(nn.LeakyReLU(0.2), spectral_norm(nn.Linear(joint, 1, bias=False))) for _ in range(2 * unary)
        ]
        self.unary = nn.ModuleList(each)

    def forward(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Float[Tensor, "b t"]:
        halves = self.image(2 * x - 1), self.code(z)
        alone = [logit(half) for logit, half in zip(self.unary, halves, strict=False)]
        return torch.cat([self.joint(torch.cat(halves, dim=1)), *alone], dim=1)  # (B, 1 or 3)


class BiGAN(Pretext):
    """An encoder and a generator learn to be each other's inverse, until a discriminator cannot tell their pairs apart.

    Optimizers step in this order: `discriminator`, `generator_encoder`. At the end of the game no logit tells pairs
    apart, and the discriminator's loss is 2 log 2 a logit (theorem 1), with hinges 2.

    latent: width of a code. width: of the discriminator's first layer. generator_width: of the generator's.
    loss: "hinge", which no longer pushes pairs that are told apart by a margin, or "logistic", as in the paper.
    unary: whether an image alone and a code alone are judged as well.
    cycle: weight of the squared error of images decoded from their own codes. Without it codes have to tell of their
        images only as much as the discriminator has learnt to ask for, which takes many more steps.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        latent: Count = 64,
        width: Count = 32,
        generator_width: Annotated[int, Ge(16)] = 128,
        loss: Literal["hinge", "logistic"] = "hinge",
        unary: bool = True,
        cycle: NotNegative = 2000.0,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.latent, self.width, self.generator_width = latent, width, generator_width
        self.loss, self.unary, self.cycle = loss, unary, cycle
        self.code = nn.Linear(encoder.dim, latent)
        self.generator = Decoder(latent, shape, generator_width)  # to [0, 1]
        self.discriminator = Discriminator(shape, latent, width, unary)

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
        cost = softplus if self.loss == "logistic" else lambda logit: F.relu(1 + logit)
        value = (cost(-encoded).mean() + cost(generated).mean()) * encoded.shape[1]  # the sum over logits
        pair = (encoded[:, 0] > 0).float().mean() + (generated[:, 0] < 0).float().mean()
        return Loss(value, {"accuracy": pair / 2})

    def generate_encode(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Loss:
        """The same with the labels exchanged, which has gradient when V saturates (section 3.4); without hinges."""
        pooled = self.encoder(x).pooled  # (B, dim)
        image, code = self.generator(z), self.code(pooled)
        # Detached weights: gradient flows through the discriminator and none is computed for it.
        judge = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        pairs = torch.cat([x, image]), torch.cat([code, z])
        encoded, generated = functional_call(self.discriminator, judge, pairs).float().chunk(2)
        cost = softplus if self.loss == "logistic" else lambda logit: logit
        value = (cost(encoded).mean() + cost(-generated).mean()) * encoded.shape[1]
        metrics = {"code_std": code.detach().float().std()}
        if self.cycle:
            error = F.mse_loss(self.generator(code), x)
            value, metrics["psnr"] = value + self.cycle * error, -10 * error.detach().log10()  # decibels
        return Loss(value, metrics, pooled)

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        x, z = views
        return {"samples": self.generator(z), "reconstruction": self.generator(self.code(self.encoder(x).pooled))}

    def suspects(self) -> Sequence[Suspect]:
        if self.latent < 8:
            return [Suspect(f"pretext.latent={self.latent}, codes of few numbers", "pretext.latent=64", 0.5)]
        return []
