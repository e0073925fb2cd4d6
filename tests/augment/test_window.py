"""Windows of an image by region: bins of where they fit, jitter within."""

import math

import pytest
import torch

from ssl_runner.augment.image.window import draw_regions


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_regions_are_bins_of_the_places_where_a_window_fits(grid, jitter, rng):
    region, top, left = draw_regions(4000, grid, 0.4, jitter, rng)
    down, across = top / 0.6 * grid, left / 0.6 * grid  # in bins
    assert torch.equal(region, down.long() * grid + across.long())
    assert top.min() >= 0
    assert max(top.max(), left.max()) <= 0.6
    within = torch.stack((down.frac(), across.frac()))
    assert (within - 0.5).abs().max() <= jitter / 2 + 1e-4
    assert within.std().item() == pytest.approx(jitter / math.sqrt(12), abs=0.01)
    assert torch.corrcoef(within)[0, 1].nan_to_num().abs() < 0.06 or jitter == 0  # down and across are separate draws
