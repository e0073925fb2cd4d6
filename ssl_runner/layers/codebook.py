"""Codebook of a VQ-VAE: tokens to ids of their nearest codes, which are moving averages of the tokens.

Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017,
arXiv 1711.00937, appendix A.1. Codes of pixels that stay as they are: patch_codes.py.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Rng
from ssl_runner.layers.k_means import add_up, k_means, nearest

AT_ONCE = 8192  # tokens whose codes are counted at the same time
ROUNDS = 10  # of k-means


class Codebook(nn.Module):
    """Holds `count` codes of `dim` numbers, and how many tokens of a step each has, as moving averages.

    momentum: share of itself that an average keeps in a step, in [0, 1].
    restart: a code with fewer tokens than this share of what codes have on average becomes a token of the step; 0:
        never. A code that no token is near would stay where it is for good.
    """

    codes: Tensor  # (K, d)
    counts: Tensor  # (K,)

    def __init__(self, count: int, dim: int, momentum: float, restart: float):
        super().__init__()
        self.momentum, self.restart = momentum, restart
        self.register_buffer("codes", torch.randn(count, dim))
        self.register_buffer("counts", torch.ones(count))

    def assign(self, z: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """The id of the code that is nearest to each token."""
        return nearest(z, self.codes, spherical=False)

    def perplexity(self) -> Float[Tensor, ""]:
        """How many codes are in even use, in [1, K], over the newest 1 / (1 - momentum) steps or so."""
        return torch.special.entr(self.counts / self.counts.sum()).sum().exp()

    @torch.no_grad()
    def start(self, z: Float[Tensor, "n d"], rng: Rng) -> None:
        """k-means of tokens, the same on every rank. Call it in before_step; `rng` has no places.

        Codes that are more than tokens stay random.
        """
        few = min(len(z), len(self.codes))
        self.codes[:few] = k_means(z, few, ROUNDS, rng, spherical=False)[0]

    @torch.no_grad()
    def update(self, z: Float[Tensor, "n d"], ids: Int[Tensor, " n"], rng: Rng) -> None:
        """Moves each code towards the mean of its tokens. Call it in after_step with all tokens of the step.

        With N and n the averaged and the new count, and s the sum of the new tokens, the code e becomes
        (momentum N e + (1 - momentum) s) / (momentum N + (1 - momentum) n), and the divisor the next N.
        """
        share = 1 - self.momentum
        counts, sums = self.total(z, ids)
        self.counts.lerp_(counts, share)
        move = share * (sums - counts[:, None] * self.codes)
        self.codes.add_(move / self.counts[:, None].clamp(min=1e-12))
        mean = self.counts.mean()
        dead = self.counts < self.restart * mean
        others = z[rng.randint(len(z), len(dead))]  # (K, d)
        self.codes.copy_(torch.where(dead[:, None], others, self.codes))
        self.counts.copy_(torch.where(dead, mean, self.counts))

    def total(
        self, z: Float[Tensor, "n d"], ids: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
        """Of each code, the number of its tokens and their sum."""
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.codes)
        for tokens, codes in zip(z.split(AT_ONCE), ids.split(AT_ONCE), strict=True):
            members, total = add_up(tokens.to(sums.dtype), codes, len(counts))
            counts += members
            sums += total
        return counts, sums


class Tokeniser(nn.Module):
    """Tokens of an encoder to ids of codes: a linear map to the codebook's numbers, and the nearest code.

    width: of the encoder's tokens. The rest is the codebook's.
    """

    def __init__(self, width: int, count: int, dim: int, momentum: float, restart: float):
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.codebook = Codebook(count, dim, momentum, restart)

    def forward(self, tokens: Float[Tensor, "b n w"]) -> tuple[Float[Tensor, "b n d"], Int[Tensor, "b n"]]:
        """The mapped tokens in float32, and the ids of their codes."""
        z = self.project(tokens).float()
        with torch.no_grad():
            return z, self.codebook.assign(z)
