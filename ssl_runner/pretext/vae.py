"""Auto-Encoding Variational Bayes (variational autoencoder, VAE).

Diederik P. Kingma, Max Welling. ICLR 2014, arXiv 1312.6114. With a weight on the divergence it is the beta-VAE: Irina
Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017. Free
bits: Diederik P. Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016,
arXiv 1606.04934.

Differs: the encoder's pooled features give the mean and the variance of a code by one linear layer, and are what is
measured. The decoder is convolutional and ends in a sigmoid; its noise is Gaussian, of a standard deviation that is a
setting. beta rises from 0 during a warm-up.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.decoder import Decoder
from ssl_runner.layers.gather import gather
from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.layers.schedule import ramp

Image = Float[Tensor, "b c h w"]
Codes = Float[Tensor, "b d"]
TEN_PERCENT = Duration(10.0, "%")
ACTIVE = 0.01  # variance of its mean over samples above which a unit tells samples apart


class VAE(Pretext):
    """Encodes an image as a normal distribution of codes, near the standard one, of which a draw decodes to the image.

    The loss is the negative evidence lower bound in nats, up to a constant, over the C * H * W numbers of an image:
    (sum of squared errors / (2 std^2) + beta * divergence) / (C * H * W). Both terms are sums before they are divided,
    so beta=1 is the bound itself. (A mean over pixels beside a divergence that is not divided would be beta=C * H * W.)

    latent: width of a code. beta: weight of the divergence, reached along a line during `warm_up`.
    std: standard deviation of the decoder's noise, in units of [0, 1]; halving it is as quartering beta.
    free_bits: nats of divergence of each unit, mean of a micro-batch, that cost nothing; 0: none.
    """

    beta_now: Tensor

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        latent: Count = 128,
        beta: NotNegative = 1.0,
        warm_up: Duration = TEN_PERCENT,
        std: Positive = 0.1,
        free_bits: NotNegative = 0.0,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.latent, self.beta, self.warm_up = latent, beta, warm_up
        self.std, self.free_bits = std, free_bits
        size = shape[1:] if augment.size is None else (augment.size, augment.size)
        self.posterior = nn.Linear(encoder.dim, 2 * latent)
        self.decoder = Decoder(latent, (shape[0], *size))
        self.register_buffer("beta_now", torch.tensor(float(beta)), persistent=False)

    def before_step(self, ctx: Context) -> None:
        self.beta_now.fill_(ramp(0.0, self.beta, self.warm_up, ctx))

    def views(self, batch: Batch, ctx: Context) -> tuple[Image, Codes]:
        """Samples, and standard normal noise (B, latent)."""
        return self.augment(batch.x, ctx.rng), ctx.rng.randn(len(batch.x), self.latent)

    def forward(self, views: tuple[Image, Codes], group: str = "main") -> Loss:
        x, noise = views
        mean, log_variance = self.encode(x)
        error = (self.decoder(mean + (log_variance / 2).exp() * noise) - x).square()
        kl = divergence(mean, log_variance)  # (B, latent)
        # Free bits are of the mean over the samples of a micro-batch, on whatever rank they are.
        cost = gather(kl).mean(0).clamp(min=self.free_bits) if self.free_bits else kl.mean(0)
        nats = error.flatten(1).sum(1).mean() / (2 * self.std**2) + self.beta_now * cost.sum()
        metrics = {
            "psnr": -10 * error.detach().mean().log10(),  # decibels
            "kl": kl.detach().sum(1).mean(),  # nats an image
            "active_units": (mean.detach().var(0, correction=0) > ACTIVE).float().sum(),
        }
        return Loss(nats / x[0].numel(), metrics, mean)

    def encode(self, x: Image) -> tuple[Codes, Codes]:
        """Mean and logarithm of the variance of the codes of images, in float32."""
        mean, log_variance = self.posterior(self.encoder(x).pooled).float().chunk(2, dim=1)
        return mean, log_variance

    def pictures(self, views: tuple[Image, Codes]) -> Mapping[str, Image]:
        x, noise = views
        return {"reconstruction": self.decoder(self.encode(x)[0]), "samples": self.decoder(noise)}

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.beta > 4 and not self.free_bits:
            cause = f"pretext.beta={self.beta:g}, the divergence may cost more than codes are worth"
            suspects.append(Suspect(cause, "pretext.beta=1", 0.8))
        if self.std > 0.3:
            cause = f"pretext.std={self.std:g}, all images are near enough to the mean one"
            suspects.append(Suspect(cause, "pretext.std=0.1", 0.8))
        return suspects


def divergence(mean: Codes, log_variance: Codes) -> Codes:
    """Kullback-Leibler divergence in nats of each unit's normal distribution from the standard one."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2
