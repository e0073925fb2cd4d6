"""Histograms of oriented gradients against hand-solved edges and an independent formula."""

import math

import pytest
import torch

from ssl_runner.loss.hog import hog, orientation_votes


def ramp(degrees: float) -> torch.Tensor:
    """(1, 1, 12, 12) of a brightness that rises evenly towards `degrees`, to the right at 0 and down at 90."""
    place = torch.arange(12, dtype=torch.float64) / 20
    angle = math.radians(degrees)
    return (math.cos(angle) * place + math.sin(angle) * place[:, None])[None, None]


@pytest.mark.parametrize(
    ("degrees", "bins", "shares"),
    [
        *((0, 9, {0: 1}), (180, 9, {0: 1}), (90, 9, {4: 0.5, 5: 0.5}), (60, 9, {3: 1}), (45, 4, {1: 1})),
        *((25, 9, {1: 0.75, 2: 0.25}), (170, 9, {8: 0.5, 0: 0.5})),
    ],
)
def test_a_gradient_votes_for_the_orientations_next_to_it(degrees, bins, shares):
    votes = orientation_votes(ramp(degrees), bins)[0, 0, :, 5, 5]
    expected = torch.zeros(bins, dtype=torch.float64)
    for number, share in shares.items():
        expected[number] = share / 10  # a difference of two pixels' steps of 1 / 20
    torch.testing.assert_close(votes, expected)


def test_an_even_image_has_no_orientation_and_light_and_contrast_do_not_matter():
    torch.manual_seed(0)
    assert not hog(torch.full((2, 3, 8, 8), 0.7), (2, 2), 4, 9).any()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(hog(0.3 * x + 0.2, (2, 2), 4, 9), hog(x, (2, 2), 4, 9))
    assert not torch.allclose(hog(x.transpose(2, 3), (2, 2), 4, 9), hog(x, (2, 2), 4, 9))


@pytest.mark.parametrize(
    ("shape", "grid", "cell"), [((3, 8, 12), (2, 3), 4), ((2, 16, 8), (2, 1), 4), ((1, 8, 8), (1, 1), 2)]
)
def test_histograms_are_of_unit_length_and_those_of_a_patch_lie_side_by_side(shape, grid, cell):
    torch.manual_seed(0)
    x = torch.rand(2, *shape, dtype=torch.float64)
    features = hog(x, grid, cell, 5)
    channels, height, width = shape
    tall, wide = height // grid[0] // cell, width // grid[1] // cell
    assert features.shape == (2, grid[0] * grid[1], tall * wide * channels * 5)
    votes = orientation_votes(x, 5)
    for row in range(height // cell):
        for column in range(width // cell):
            square = votes[:, :, :, row * cell : row * cell + cell, column * cell : column * cell + cell].sum((3, 4))
            expected = square / square.square().sum(2, keepdim=True).sqrt()
            patch = row // tall * grid[1] + column // wide
            place = (row % tall * wide + column % wide) * channels * 5
            actual = features[:, patch, place : place + channels * 5].unflatten(1, (channels, 5))
            torch.testing.assert_close(actual, expected)


def test_a_flat_cell_is_short_and_an_edge_is_nearly_of_unit_length():
    """In float64 by hand: votes v of a cell become v / sqrt(|v|^2 + epsilon^2)."""
    x = 0.5 + 0.002 * torch.rand(1, 1, 8, 8, dtype=torch.float64)
    x[:, :, :, 6:] += 0.4
    votes = orientation_votes(x, 9).unflatten(3, (2, 4)).unflatten(5, (2, 4)).mean((4, 6))  # (1, 1, 9, 2, 2)
    for epsilon in (1e-6, 0.1):
        length = (votes.square().sum(2, keepdim=True) + epsilon**2).sqrt()
        expected = (votes / length).permute(0, 3, 4, 1, 2).reshape(1, 4, 9)
        torch.testing.assert_close(hog(x, (2, 2), 4, 9, epsilon), expected)
    flat, edge = hog(x, (2, 2), 4, 9, 0.1).norm(dim=2)[0, :2].tolist()
    assert flat < 0.02
    assert edge > 0.85
    assert hog(x, (2, 2), 4, 9).norm(dim=2).min() > 0.99
