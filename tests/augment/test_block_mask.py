"""Masks of blocks, units and targets: exact counts, every place of the grid, and what lies where."""

import pytest
import torch
from torch import Tensor

from ssl_runner.augment.image import block_mask
from ssl_runner.augment.image.block_mask import block_masks, multi_block_masks, unit_masks, units_of
from ssl_runner.layers.counter_rng import CounterRng

GRIDS = [(8, 8), (3, 7), (14, 14)]
SHAPE = {"scale": (0.85, 1.0), "aspect": (0.75, 1.5)}


def rng(seed: int = 0) -> CounterRng:
    return CounterRng(seed, torch.device("cpu"))


def rows_and_columns(places: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Height and width of the smallest rectangle around the places of each sample."""
    return tuple(each.amax(-1) - each.amin(-1) + 1 for each in (places // columns, places % columns))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.75])
def test_a_mask_hides_exactly_that_many_and_each_patch_is_shown_or_hidden(grid, share):
    tokens = grid[0] * grid[1]
    hidden = max(1, round(share * tokens))
    shown, masked = block_masks(50, grid, hidden, rng(), smallest=4)
    assert masked.shape == (50, hidden)
    assert torch.equal(torch.cat([shown, masked], 1).sort(1).values, torch.arange(tokens).expand(50, -1))
    assert len(masked.sort(1).values.unique(dim=0)) > 25, "each sample has its own"


def every_place_is_reached(grid: tuple[int, int] = (6, 9)) -> None:
    """First and last rows and columns are hidden as often as each other, by blocks and by targets."""
    _, masked = block_masks(4000, grid, 12, rng(), smallest=6, aspect=(0.5, 2.0))
    targets = multi_block_masks(4000, grid, 2, 6, rng(), **SHAPE).targets.flatten(1)
    for places in (masked, targets):
        counts = places.flatten().bincount(minlength=grid[0] * grid[1]).view(grid).float()
        for turned in (counts.flip(0), counts.flip(1)):
            assert (turned - counts).abs().max() < 5 * counts.mean().sqrt() * 2
        assert counts.min() > 0.2 * counts.mean()


def test_blocks_reach_the_last_row_and_column_as_often_as_the_first():
    every_place_is_reached()


def test_a_block_that_never_reaches_the_last_row_is_seen(monkeypatch):
    """ijepa's issue 40: the place of a block is drawn below, and not up to and with, the last one."""
    right = block_mask.place_blocks

    def short(tall, wide, grid, draws):
        rows, columns = grid
        blocks = right(tall.clamp(max=rows - 1), wide.clamp(max=columns - 1), (rows - 1, columns - 1), draws)
        return torch.nn.functional.pad(blocks.unflatten(2, (rows - 1, columns - 1)), (0, 1, 0, 1)).flatten(2)

    monkeypatch.setattr(block_mask, "place_blocks", short)
    with pytest.raises(AssertionError):
        every_place_is_reached()


def test_blocks_are_taken_one_after_the_other_and_of_the_last_a_part(monkeypatch):
    blocks = torch.zeros(3, block_mask.TRIES, 16, dtype=torch.bool)
    blocks[:, 0, [0, 1, 4, 5]] = True
    blocks[:, 1:, [5, 6, 7, 9, 10, 11]] = True
    monkeypatch.setattr(block_mask, "place_blocks", lambda *given: blocks)
    _, masked = block_masks(3, (4, 4), 7, rng(), smallest=4)
    for row in masked.tolist():
        assert {0, 1, 4, 5} < set(row) <= {0, 1, 4, 5, 6, 7, 9, 10, 11}
    assert len(masked.sort(1).values.unique(dim=0)) > 1


def test_hidden_patches_lie_together():
    """A hidden patch's right neighbour is hidden more often than by chance, and wide blocks are wide."""
    for aspect, upright in (((0.2, 0.3), False), ((3.0, 5.0), True)):
        _, masked = block_masks(500, (10, 10), 12, rng(), smallest=12, aspect=aspect)
        maps = torch.zeros(500, 100).scatter(1, masked, 1.0).view(500, 10, 10)
        right, below = ((maps[:, :, 1:] * maps[:, :, :-1]).sum(), (maps[:, 1:] * maps[:, :-1]).sum())
        assert min(right, below) > 500 * 3  # 0.12 * 12 = 1.4 a sample by chance
        assert (below > 1.3 * right) == upright != (right > 1.3 * below)


@pytest.mark.parametrize(("unit", "hidden"), [(1, 20), (2, 4), (4, 1)])
def test_units_are_hidden_whole(unit, hidden):
    shown, masked = unit_masks(30, units_of((4, 12), (unit, unit)), hidden, rng())
    assert masked.shape == (30, hidden * unit * unit)
    assert torch.equal(torch.cat([shown, masked], 1).sort(1).values, torch.arange(48).expand(30, -1))
    maps = torch.zeros(30, 48).scatter(1, masked, 1.0).view(30, 1, 4, 12)
    squares = torch.nn.functional.avg_pool2d(maps, unit)
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert len(squares.unique(dim=0)) > 2


def test_units_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"units of 2x2 do not fill a grid of 7x7 patches; type pretext\.unit=1"):
        units_of((7, 7), (2, 2))


@pytest.mark.parametrize(
    ("grid", "count", "size"), [((8, 8), 4, 12), ((14, 14), 4, 36), ((5, 9), 3, 7), ((2, 16), 2, 5)]
)
def test_targets_are_blocks_of_one_size_and_no_patch_of_the_context_is_in_any(grid, count, size):
    context, targets = multi_block_masks(200, grid, count, size, rng(), **SHAPE)
    tokens = grid[0] * grid[1]
    assert (context.shape, targets.shape) == ((200, tokens - count * size), (200, count, size))
    seen = torch.zeros(200, tokens).scatter_add(1, context, torch.ones(context.shape))
    assert seen.max() == 1, "a patch is in the context once"
    assert not seen.gather(1, targets.flatten(1)).any()
    assert all(len(set(block)) == size for block in targets.flatten(0, 1).tolist())
    tall, wide = rows_and_columns(targets, grid[1])
    assert ((tall * wide >= size) & (tall * wide < size + tall)).all()  # no more than part of a column is left out
    if size == 12:  # 3 x 4 and 4 x 3, anywhere
        assert {*zip(tall.flatten().tolist(), wide.flatten().tolist(), strict=True)} == {(3, 4), (4, 3)}


def test_the_context_comes_from_its_block_first():
    context, _ = multi_block_masks(100, (8, 8), 1, 1, rng(), scale=(0.25, 0.25), aspect=(1.0, 1.0))
    tall, wide = rows_and_columns(context[:, :15], 8)  # a block of 4 x 4, of which the target may be one
    assert (tall <= 4).all()
    assert (wide <= 4).all()
    assert len(context[:, :15].amin(1).unique()) > 5
