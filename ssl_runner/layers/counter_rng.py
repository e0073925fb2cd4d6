"""Counter-based random numbers: a hash of (key, draw, place of the sample, column), so that a sample draws its own.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The hash is
SplitMix64 of G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # SplitMix64's
WORD, BITS = 2**64, 24  # bits of a float32 in [0, 1)


class CounterRng:
    """Random numbers by row: those of a sample are the same whichever process draws them, and beside which others.

    key: of all that is drawn; each draw moves on to the next. places: of the rows in the batch, (B,) int64; a draw of
    n rows, n a multiple of B, repeats them. None: the rows of any draw are 0 to n - 1.
    """

    def __init__(self, key: int, device: torch.device, places: Int[Tensor, " b"] | None = None):
        self.key, self.device, self.places = key, device, places

    def rand(self, n: int, *shape: int) -> Float[Tensor, "n ..."]:
        """Uniform in [0, 1), multiples of 2^-24."""
        return uniform(self._hash(n, math.prod(shape)) >> 40).view(n, *shape)

    def randn(self, n: int, *shape: int) -> Float[Tensor, "n ..."]:
        """Normal, by Box and Muller's transform of pairs; none is further than 5.8 from 0."""
        width = math.prod(shape)
        z = self._hash(n, (width + 1) // 2)
        radius = (1 - uniform(z >> 40)).log_().mul_(-2).sqrt_()
        angle = uniform(z >> 16).mul_(2 * math.pi)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :width].view(n, *shape)

    def randint(self, high: int, n: int, *shape: int) -> Int[Tensor, "n ..."]:
        """Uniform in {0, ..., high - 1}, within high / 2^31; high is at most 2^31."""
        return ((self._hash(n, math.prod(shape)) >> 33 & 0x7FFFFFFF) * high >> 31).view(n, *shape)

    def _hash(self, n: int, width: int) -> Int[Tensor, "n width"]:
        """64 random bits each. Raises ValueError if n rows are no whole number of batches."""
        self.key = mix(self.key + GAMMA)
        places = torch.arange(n, device=self.device) if self.places is None else self.places
        copies, rest = divmod(n, len(places))
        if rest:
            raise ValueError(f"{n} rows drawn for a batch of {len(places)}; draw one row a sample, or a multiple of it")
        columns = torch.arange(copies * width, device=self.device).mul_(signed(GAMMA)).add_(signed(self.key))
        z = (places * signed(copies * width * GAMMA))[:, None] + columns  # (B, copies * width)
        z ^= z >> 30 & (1 << 34) - 1  # a logical shift: torch's is arithmetic
        z *= signed(FIRST)
        z ^= z >> 27 & (1 << 37) - 1
        z *= signed(SECOND)
        z ^= z >> 31 & (1 << 33) - 1
        return z if copies == 1 else z.view(-1, copies, width).transpose(0, 1).reshape(n, width)


def uniform(bits: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The lowest 24 bits as a number in [0, 1)."""
    return (bits & (1 << BITS) - 1).float().mul_(2.0**-BITS)


def mix(z: int) -> int:
    """SplitMix64's hash of one number."""
    z = (z ^ z % WORD >> 30) * FIRST % WORD
    z = (z ^ z >> 27) * SECOND % WORD
    return z ^ z >> 31


def signed(number: int) -> int:
    """Of 64 bits, as torch's int64 has them."""
    return (number + WORD // 2) % WORD - WORD // 2
