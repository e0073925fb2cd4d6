"""Coding rate, collision entropy and nuclear norm: hand-solved cases, independent formulas in float64, invariances."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import number

from ssl_runner.loss.coding import coding_rate, collision_entropy, nuclear_norm

MEASURES = {"rate": lambda z: coding_rate(z, 0.2), "entropy": collision_entropy, "norm": nuclear_norm}
EVEN = torch.eye(64).repeat(4, 1)[None]  # (1, 256, 64) unit rows, spread evenly
SAME = F.normalize(torch.ones(1, 256, 64), dim=2)


@pytest.mark.parametrize(
    ("name", "even", "same"),
    [
        ("rate", 32 * math.log(1 + 1 / 0.2), 0.5 * math.log(1 + 64 / 0.2)),
        ("entropy", math.log(64), 0),
        ("norm", math.sqrt(256 * 64), math.sqrt(256)),
    ],
)
def test_rows_spread_evenly_and_rows_all_alike_by_hand(name, even, same):
    measure = MEASURES[name]
    assert number(measure(EVEN)) == pytest.approx(even, rel=1e-5)
    assert number(measure(SAME)) == pytest.approx(same, rel=1e-4, abs=1e-5)
    few = EVEN[:, :16]  # rows that are fewer than the dimensions: 16 directions of 64
    expected = {"rate": 8 * math.log(1 + 64 / (16 * 0.2)), "entropy": math.log(16), "norm": 16}[name]
    assert number(measure(few)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 12, 5), (3, 5, 12)])
@pytest.mark.parametrize("name", MEASURES)
def test_each_view_has_the_value_of_its_singular_values_whichever_side_is_longer(name, shape, rng):
    z = torch.randn(shape, generator=rng, dtype=torch.float64)
    values, (_, n, d) = MEASURES[name](z), shape
    for view, value in zip(z, values, strict=True):
        squared = torch.linalg.eigvalsh(view.T @ view).clamp(min=0)  # of the singular values
        p = squared / squared.sum()
        formulas = {"rate": 0.5 * (1 + d / (n * 0.2) * squared).log().sum(), "norm": squared.sqrt().sum()}
        expected = formulas | {"entropy": -p.square().sum().log()}
        assert number(value) == pytest.approx(number(expected[name]), rel=1e-4)
    turn = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q
    order = torch.randperm(n, generator=rng)
    for same in (z @ turn, z[:, order]):
        torch.testing.assert_close(MEASURES[name](same), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_in_float32_under_autocast_with_a_finite_gradient_also_where_rows_are_alike(name, rng):
    z = F.normalize(torch.randn(2, 9, 6, generator=rng), dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        under = MEASURES[name](z)
    torch.testing.assert_close(under, MEASURES[name](z))
    for rows in (z, SAME):
        rows = rows.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(MEASURES[name](rows).sum(), rows)
        assert gradient.isfinite().all()


def test_the_trace_of_the_entropy_has_no_gradient(rng):
    """Its reference divides by a number that was read: a longer row gains nothing by making the trace larger."""
    z = torch.randn(1, 7, 4, generator=rng, dtype=torch.float64).requires_grad_()
    (ours,) = torch.autograd.grad(collision_entropy(z).sum(), z)
    k = z.mT @ z
    (expected,) = torch.autograd.grad(-k.square().sum().log(), z)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
