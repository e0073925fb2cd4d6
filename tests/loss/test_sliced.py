"""Sliced tests of normality: by hand and by loops in float64, what they do not depend on, random directions."""

import math

import pytest
import torch
from torch import Tensor
from toys import context, number

from ssl_runner.loss.sliced import Directions, epps_pulley, wasserstein

QUANTILES = torch.special.ndtri(torch.arange(1, 10, dtype=torch.float64) / 10)


def by_loops(x: Tensor) -> float:
    """The statistic of Epps and Pulley, over all of [-3, 3] and without use of its symmetry."""
    knots, total = [-3 + 3 / 16 * k for k in range(33)], 0.0
    for k, t in enumerate(knots):
        of_data = sum(complex(math.cos(t * v), math.sin(t * v)) for v in x.tolist()) / len(x)
        normal = math.exp(-t * t / 2)
        total += abs(of_data - normal) ** 2 * normal * (3 / 16) * (0.5 if k in {0, 32} else 1)
    return len(x) * total


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_epps_pulley_is_the_integral_over_the_whole_range(rng, shift):
    x = torch.randn(2, 9, 3, generator=rng, dtype=torch.float64) + shift
    values = epps_pulley(x)
    assert values.shape == (2, 3)
    expected = [by_loops(x[v, :, m]) for v in range(2) for m in range(3)]
    torch.testing.assert_close(values.flatten(), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(epps_pulley(-x), values)
    torch.testing.assert_close(epps_pulley(x[:, torch.randperm(9, generator=rng)]), values)


def test_epps_pulley_at_collapse_has_no_gradient_and_for_normal_numbers_its_mean_does_not_grow(rng):
    zeros = torch.zeros(1, 50, 1, dtype=torch.float64, requires_grad=True)
    value = epps_pulley(zeros)
    assert number(value) == pytest.approx(0.40205 * 50, rel=1e-4)
    value.backward()
    assert not zeros.grad.any()  # the stationary point that VISReg is made against
    means = [number(epps_pulley(torch.randn(1, n, 2000, generator=rng)).mean()) for n in (32, 256)]
    assert means == pytest.approx([1.08, 1.08], abs=0.08)


def test_wasserstein_is_zero_at_the_quantiles_in_any_order_and_else_by_hand(rng):
    x = QUANTILES[torch.randperm(9, generator=rng)].view(1, 9, 1).requires_grad_()
    assert number(wasserstein(x)) == pytest.approx(0, abs=1e-12)
    assert number(wasserstein(x + 2)) == pytest.approx(4)
    torch.testing.assert_close(wasserstein(3 * x).squeeze(), 4 * QUANTILES.square().mean())
    assert number(wasserstein(torch.zeros(1, 9, 1))) == pytest.approx(number(QUANTILES.square().mean()))
    wasserstein(x + 2).backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 4 / 9))  # to each number, wherever it is in the order


def test_directions_are_of_unit_length_spread_alike_and_drawn_from_the_context():
    directions = Directions(4000, 3)
    assert not directions.state_dict()
    old = directions.rows.clone()
    directions.draw(context(3).rng)
    drawn = directions.rows.clone()
    assert not torch.equal(old, drawn)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(4000))
    torch.testing.assert_close(drawn.T @ drawn / 4000, torch.eye(3) / 3, atol=0.02, rtol=0)
    torch.rand(1)
    directions.draw(context(3).rng)
    assert torch.equal(directions.rows, drawn)
    z = torch.randn(2, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        projected = directions(z.bfloat16())
    torch.testing.assert_close(projected[1], z.bfloat16().float()[1] @ drawn.T)


@pytest.mark.parametrize("statistic", [epps_pulley, wasserstein])
def test_a_row_of_directions_sees_a_shape_that_no_single_dimension_has(statistic, rng):
    """Both dimensions are normal, but together they are on a line or two: the covariance is that of a normal one."""
    x = torch.randn(1, 1000, generator=rng)
    signs = torch.rand(1, 1000, generator=rng).sub(0.5).sign()
    crossed, round_ = torch.stack([x, signs * x], 2), torch.randn(1, 1000, 2, generator=rng)
    directions = Directions(200, 2)
    seen, usual = (number(statistic(directions(z)).mean()) for z in (crossed, round_))
    assert seen > 3 * usual
    alone = number(statistic(crossed).mean())
    assert alone < 3 * number(statistic(round_).mean())
