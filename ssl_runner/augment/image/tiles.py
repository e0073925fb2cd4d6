"""Tiles of images: a grid of small squares, each at a random place of its cell, in a random order.

After M. Noroozi, P. Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016,
arXiv 1603.09246: the gap between tiles keeps edges and textures that go on from telling which of them are neighbours.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Rng


def tile_side(shape: tuple[int, int], grid: int, gap: int = 0) -> int:
    """Pixels a side of a tile: three quarters of its cell, as PIRL's 64 of 85 pixels (arXiv 1912.01991); 1 at least.

    Raises ValueError if a cell has no room for a tile and the gap to the next.
    """
    side, cell = max(1, 3 * min(shape) // (4 * grid)), min(shape) // grid
    if gap and side + gap > cell:
        raise ValueError(f"{side} px of a tile and gap={gap} are more than its cell's {cell}; type gap={cell - side}")
    return side


def cut_tiles(x: Float[Tensor, "b c h w"], grid: int, side: int, rng: Rng, gap: int = 0) -> Float[Tensor, "n b c s s"]:
    """Squares of `side` pixels, one of each of grid x grid equal cells in raster order, at a random place in it.

    Neighbours are `gap` pixels apart at least. Pixels are moved and not changed. Raises ValueError if a square and its
    gap do not fit into a cell.
    """
    (height, width), n = x.shape[2:], grid * grid
    if (side + gap) * grid > min(height, width):
        apart = f", {gap} pixels apart," if gap else ""
        raise ValueError(f"tiles of {side} pixels{apart} do not fit {grid} times into {height}x{width}")
    cell, row = torch.arange(n, device=x.device), torch.arange(side, device=x.device)
    place = rng.rand(len(x), 2, n)  # of a cell's room, down and across
    starts = []
    for axis, (pixels, number) in enumerate(((height, cell // grid), (width, cell % grid))):
        first, end = number * pixels // grid + gap // 2, (number + 1) * pixels // grid - (gap - gap // 2)
        room = end - first - side
        starts.append(first + (place[:, axis] * (room + 1)).long())  # (B, n), less than first + room + 1
    down, across = (start.T[..., None] + row for start in starts)  # (n, B, s)
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    return x[sample, :, down[..., None], across[..., None, :]].permute(0, 1, 4, 2, 3)


def draw_orders(count: int, n: int, rng: Rng) -> Int[Tensor, "b n"]:
    """A random permutation of 0 to n - 1 for each of `count` samples."""
    return rng.rand(count, n).argsort(dim=1)


def reorder(tiles: Float[Tensor, "n b ..."], order: Int[Tensor, "b n"]) -> Float[Tensor, "n b ..."]:
    """Puts tile order[i, k] of sample i in place k."""
    return tiles[order.T, torch.arange(order.shape[0], device=order.device)]


def normalise_tiles(
    tiles: Float[Tensor, "n c s s"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]
) -> Float[Tensor, "n c s s"]:
    """Each tile with the channels' means at `mean`, and of one contrast, in units of `std`.

    How bright or flat a tile is beside others tells no place then. A standard deviation counts 0.01 more, in square, so
    that the noise of an even tile stays small.
    """
    centred = tiles - tiles.mean((2, 3), keepdim=True)
    scale = (centred.square().mean((1, 2, 3), keepdim=True) + 1e-4).sqrt()
    return mean.view(-1, 1, 1) + std.view(-1, 1, 1) * centred / scale


def join_tiles(tiles: Float[Tensor, "n b c s s"], grid: int) -> Float[Tensor, "b c h w"]:
    """An image of grid x grid tiles in raster order, with a black line of one pixel after each."""
    framed = F.pad(tiles, (0, 1, 0, 1)).unflatten(0, (grid, grid))  # (rows, columns, B, C, s + 1, s + 1)
    return framed.permute(2, 3, 0, 4, 1, 5).flatten(4, 5).flatten(2, 3)
