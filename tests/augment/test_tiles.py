"""Tiles: pixels of their own cells, at every place of them, in an order that each sample draws."""

import pytest
import torch
from toys import context

from ssl_runner.augment.image.tiles import cut_tiles, draw_orders, reorder, tile_side


def coordinates(height: int, width: int, n: int = 400) -> torch.Tensor:
    """Images whose channels are the sample, the row and the column of each pixel."""
    axes = torch.meshgrid(*(torch.arange(k).float() for k in (n, height, width)), indexing="ij")
    return torch.stack(axes, 1)


@pytest.mark.parametrize(
    ("height", "width", "grid", "side"), [(8, 8, 2, 3), (9, 9, 3, 2), (10, 13, 3, 3), (8, 8, 2, 4)]
)
def test_a_tile_is_a_square_of_its_sample_anywhere_in_its_cell(height, width, grid, side):
    tiles = cut_tiles(coordinates(height, width), grid, side, context().rng)
    assert tiles.shape == (grid * grid, 400, 3, side, side)
    sample, down, across = tiles.unbind(2)
    assert (sample == torch.arange(400.0)[:, None, None]).all()
    steps = torch.arange(side)
    assert ((down - down[..., :1, :1]) == steps[:, None]).all()
    assert ((across - across[..., :1, :1]) == steps).all()
    for k in range(grid * grid):
        for first, pixels, number in ((down[k, :, 0, 0], height, k // grid), (across[k, :, 0, 0], width, k % grid)):
            low, high = number * pixels // grid, (number + 1) * pixels // grid
            assert first.unique().tolist() == list(range(low, high - side + 1))


def test_tiles_that_do_not_fit_are_refused_and_a_side_is_three_quarters_of_a_cell():
    assert [tile_side((32, 40), 2), tile_side((255, 255), 3), tile_side((2, 2), 2)] == [12, 63, 1]
    with pytest.raises(ValueError, match="tiles of 5 pixels do not fit 2 times into 8x8"):
        cut_tiles(coordinates(8, 8, 2), 2, 5, context().rng)


def test_orders_are_permutations_and_tiles_follow_that_of_their_sample():
    order = draw_orders(2000, 4, context().rng)
    assert (order.sort(dim=1).values == torch.arange(4)).all()
    assert len(order.unique(dim=0)) == 24
    first = order[:, 0].bincount() / 2000
    assert (first - 0.25).abs().max() < 0.05
    tiles = torch.stack([torch.arange(2000.0) + 10_000 * k for k in range(4)])
    moved = reorder(tiles, order)
    assert all(moved[k, i] == i + 10_000 * order[i, k] for i in range(50) for k in range(4))
