"""Block-wise, unit-wise, multi-block and inverse-block patch masks, drawn for a whole batch, of one shape."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.augment.image.mask import random_masks
from ssl_runner.contract import Rng

Grid = tuple[int, ...]  # rows and columns of patches
Size = int | Int[Tensor, "b 1"]  # patches
Masks = tuple[Int[Tensor, "b k"], Int[Tensor, "b m"]]  # patches shown and hidden, together each patch once
TRIES = 24  # blocks drawn a sample, more than fill any share that is worth hiding


class MultiBlock(NamedTuple):
    """What I-JEPA predicts, and from what: positions in raster order of patches."""

    context: Int[Tensor, "b k"]  # none of them is in any target
    targets: Int[Tensor, "b t m"]  # t blocks, which may overlap


def block_masks(
    samples: int, grid: Grid, hidden: int, rng: Rng, *, smallest: int, aspect: tuple[float, float] = (0.3, 1 / 0.3)
) -> Masks:
    """Patches shown, and exactly `hidden` ones, which lie in blocks: BEiT's masks, arXiv 2106.08254.

    A block has `smallest` to `hidden` patches, as near as whole rows and columns come to it, and a height over its
    width that is log-uniform in `aspect`. Blocks are laid one upon another until `hidden` patches are covered; of the
    last block it is a random part. Every place of the grid at which a block fits is as likely as any other.
    """
    order = block_order(samples, grid, min(smallest, hidden), max(0, hidden - smallest), rng, aspect)
    return order[:, hidden:], order[:, :hidden]


def varied_block_masks(
    counts: Int[Tensor, " b"], most: int, grid: Grid, rng: Rng, *, smallest: int,
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:  # fmt: skip
    """Positions of `most` patches a sample, and whether each is hidden: the first counts[i], in blocks as in
    `block_masks`. So masks of several sizes, which may be empty, have one shape."""
    hidden = counts[:, None]
    least, span = hidden.clamp(max=smallest), (hidden - smallest).clamp(min=0)
    order = block_order(len(counts), grid, least, span, rng, aspect)
    return order[:, :most], torch.arange(most, device=counts.device) < hidden


def block_order(
    samples: int, grid: Grid, least: Size, span: Size, rng: Rng, aspect: tuple[float, float]
) -> Int[Tensor, "b n"]:
    """All patches, those of the first block in random order, then those that the second adds, and so on.

    Areas of blocks are uniform between `least` and `least` + `span` patches.
    """
    area = least + rng.rand(samples, TRIES) * span
    blocks = place_blocks(*sides(area, log_uniform(rng.rand(samples, TRIES), aspect), grid), grid, rng)  # (B, T, n)
    number = torch.arange(TRIES, device=blocks.device)[:, None]
    first = torch.where(blocks, number, TRIES).amin(dim=1)  # (B, n), the first block that covers a patch
    return (first + rng.rand(*first.shape)).argsort(dim=1)


def inverse_block_masks(
    samples: int, grid: Grid, shown: int, rng: Rng, *, aspect: tuple[float, float] = (0.5, 2.0)
) -> Masks:
    """Exactly `shown` patches, which lie in one block, and the hidden ones: CAPI's masks, arXiv 2502.08769.

    The block goes on at the opposite side where it leaves the grid, so that every patch is shown as often as any other.
    Its height over its width is log-uniform in `aspect`, as far as the grid allows. Of a block of whole rows and
    columns that is larger than `shown`, patches at random are hidden. Both come in random order.
    """
    rows, columns = grid
    tall = (shown * log_uniform(rng.rand(samples, 1), aspect)).sqrt().round()
    tall = tall.clamp(min(rows, -(-shown // columns)), rows)
    block = place_blocks(tall, (shown / tall).ceil(), grid, rng, wrap=True)[:, 0]  # (B, n)
    order = (~block + rng.rand(*block.shape)).argsort(dim=1)
    return order[:, :shown], order[:, shown:]


def unit_masks(samples: int, units: Int[Tensor, "u s"], hidden: int, rng: Rng) -> Masks:
    """Patches shown and hidden, by units that `units_of` makes, of which `hidden` are hidden: SimMIM's masks."""
    shown, masked = random_masks(samples, len(units), len(units) - hidden, rng)
    return units[shown].flatten(1), units[masked].flatten(1)


def multi_block_masks(
    samples: int, grid: Grid, targets: int, size: int, rng: Rng, *, scale: tuple[float, float],
    aspect: tuple[float, float]
) -> MultiBlock:  # fmt: skip
    """I-JEPA's masks, arXiv 2301.08243: `targets` blocks of `size` patches, and what is left of a large one.

    aspect: height over width of a target, uniform. A block of whole rows and columns that is larger than `size` loses
    patches at random. scale: share of the image in the context block, a square as nearly as the grid allows. Context
    are as many patches as are left if no targets overlap, at random of those left in its block, then of those outside.
    """
    rows, columns = grid
    span = aspect[0] + (aspect[1] - aspect[0]) * rng.rand(samples, targets)
    tall = (size * span).sqrt().round().clamp(min(rows, -(-size // columns)), rows)
    blocks = place_blocks(tall, (size / tall).ceil(), grid, rng)  # (B, t, n)
    inside = (~blocks + rng.rand(*blocks.shape)).argsort(dim=2)[:, :, :size]  # (B, t, size)
    target = torch.zeros_like(blocks).scatter(2, inside, value=True).any(dim=1)  # (B, n)
    area = rows * columns * (scale[0] + (scale[1] - scale[0]) * rng.rand(samples, 1))
    large = place_blocks(*sides(area, torch.ones_like(area), grid), grid, rng)[:, 0]  # (B, n)
    left = (2 * target + ~large + rng.rand(*large.shape)).argsort(dim=1)
    return MultiBlock(left[:, : rows * columns - targets * size], inside)


def units_of(grid: Grid, unit: Grid) -> Int[Tensor, "u s"]:
    """The patches of each unit of so many rows and columns of patches, in raster order.

    Raises ValueError if they do not fill the grid.
    """
    (rows, columns), (tall, wide) = grid, unit
    if rows % tall or columns % wide:
        given = f"units of {tall}x{wide} do not fill a grid of {rows}x{columns} patches"
        raise ValueError(f"{given}; type pretext.unit=1")
    places = torch.arange(rows * columns).view(rows // tall, tall, columns // wide, wide)
    return places.transpose(1, 2).reshape(-1, tall * wide)


def sides(
    area: Float[Tensor, "b t"], aspect: Float[Tensor, "b t"], grid: Grid
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Rows and columns of blocks of about `area` patches, one at least and no more than there are."""
    return tuple(
        (area * span).sqrt().round().clamp(1, most)
        for span, most in zip((aspect, 1 / aspect), grid, strict=True)
    )  # fmt: skip


def log_uniform(share: Float[Tensor, "b t"], bounds: tuple[float, float]) -> Float[Tensor, "b t"]:
    """Numbers between bounds whose logarithm is uniform, from uniform ones in [0, 1)."""
    return bounds[0] * (bounds[1] / bounds[0]) ** share


def place_blocks(
    tall: Float[Tensor, "b t"], wide: Float[Tensor, "b t"], grid: Grid, rng: Rng, *, wrap: bool = False
) -> Bool[Tensor, "b t n"]:
    """Which patches each block covers, put anywhere that it fits: up to and with the last row and column.

    wrap: it fits anywhere, and goes on at the opposite side.
    """
    lines = []
    for length, most in zip((tall, wide), grid, strict=True):
        starts = most if wrap else most - length + 1
        start = (rng.rand(*length.shape) * starts).floor()[..., None]  # 0 to starts - 1
        place = torch.arange(most, device=start.device)
        lines.append((place - start).remainder(most) < length[..., None])  # (B, t, most)
    return (lines[0][..., None] & lines[1][:, :, None]).flatten(2)
