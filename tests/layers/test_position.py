"""Sine-cosine positions by hand, and grids of token sequences."""

from math import cos, sin

import pytest
import torch

from ssl_runner.layers.position import grid_of, sine_cosine


def test_sine_cosine_by_hand():
    positions = sine_cosine((2, 3), 8)  # the row's sines, its cosines, the column's sines, its cosines
    for row in range(2):
        for column in range(3):
            expected = [f(place * w) for place in (row, column) for f in (sin, cos) for w in (1, 0.01)]
            torch.testing.assert_close(positions[3 * row + column], torch.tensor(expected))
    torch.testing.assert_close(sine_cosine((5,), 4)[:, 0], torch.arange(5.0).sin())
    with pytest.raises(ValueError, match=r"a width of 6 .* use a multiple of 4"):
        sine_cosine((2, 2), 6)


def test_grid_of_a_sequence():
    assert [grid_of(24, aspect) for aspect in (2 / 3, 3 / 2, 24.0, 1 / 24)] == [(4, 6), (6, 4), (24, 1), (1, 24)]
    assert grid_of(7, 1.0) == (7,)
