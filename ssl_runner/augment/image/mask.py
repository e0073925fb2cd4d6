"""Random patch masks, and images cut into patches and put together again."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Rng


def patch_count(patches: int, share: float) -> int:
    """A share of so many patches, rounded: one at least, and never all of them."""
    return min(max(round(patches * share), 1), patches - 1)


def random_masks(
    samples: int, tokens: int, shown: int, rng: Rng, real: Bool[Tensor, "b n"] | None = None
) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b m"]]:
    """Which tokens each sample shows and which it hides: a partition of range(tokens), its own for each sample.

    Every subset of `shown` tokens is as likely as any other. Both come in random order, on the generator's device.
    real: which tokens are no padding; of those and of padding each sample shows its share, rounded.
    """
    order = rng.rand(samples, tokens).argsort(dim=1)  # (B, N)
    if real is not None:
        among = real.gather(1, order)
        place = torch.where(among, among.cumsum(1), (~among).cumsum(1))  # from 1, in its kind
        count = torch.where(among, among.sum(1, keepdim=True), (~among).sum(1, keepdim=True))
        order = order.gather(1, ((place - 0.5) / count).argsort(dim=1, stable=True))
    return order[:, :shown], order[:, shown:]


def patchify(x: Float[Tensor, "b c h w"], patch: tuple[int, int]) -> Float[Tensor, "b n d"]:
    """Images as patches of `patch` (height, width) pixels in raster order; d = height * width * c."""
    b, c, h, w = x.shape
    tall, wide = patch
    x = x.reshape(b, c, h // tall, tall, w // wide, wide)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // tall) * (w // wide), tall * wide * c)  # (B, N, D)


def unpatchify(
    patches: Float[Tensor, "b n d"], patch: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """The inverse of `patchify`, for a grid of (rows, columns) of patches."""
    tall, wide = patch
    x = patches.unflatten(2, (tall, wide, -1)).unflatten(1, grid)  # (B, rows, columns, tall, wide, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
