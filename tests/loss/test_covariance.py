"""Costs of variance, covariance and correlation, in float64, against torch's own estimates and solved by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import number

from ssl_runner.loss.covariance import (
    correlation,
    covariance,
    covariance_cost,
    cross_correlation,
    off_diagonal,
    variance_cost,
)

# Four rows of mean 0: three dimensions of variance 4/3 that do not covary.
PLAIN = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)


@pytest.fixture
def z(rng):
    return 3 + torch.randn(9, 4, dtype=torch.float64, generator=rng) @ torch.randn(4, 4, generator=rng).double()


def test_estimates_are_torchs(z, rng):
    torch.testing.assert_close(covariance(z), torch.cov(z.T))
    torch.testing.assert_close(correlation(z), torch.corrcoef(z.T))
    other = torch.randn(9, 4, dtype=torch.float64, generator=rng)
    normed = [F.batch_norm(each, None, None, training=True) for each in (z, other)]
    torch.testing.assert_close(cross_correlation(z, other), normed[0].T @ normed[1] / 9)
    joint = torch.corrcoef(torch.cat([z, other], dim=1).T)[:4, 4:]
    torch.testing.assert_close(cross_correlation(z, other, eps=0.0), joint)
    assert off_diagonal(z[:4]).diagonal().tolist() == [0] * 4
    assert number((z[:4] - off_diagonal(z[:4])).sum()) == pytest.approx(number(z[:4].trace()))


def test_costs_by_hand():
    assert number(variance_cost(PLAIN)) == 0
    assert number(variance_cost(0.5 * PLAIN)) == pytest.approx(1 - math.sqrt(1 / 3 + 1e-4), rel=1e-9)
    assert number(variance_cost(torch.ones(5, 3, dtype=torch.float64))) == pytest.approx(0.99)
    assert number(covariance_cost(PLAIN)) == 0
    repeated = PLAIN[:, [0, 0, 0]]  # six covariances of 4/3, three dimensions
    assert number(covariance_cost(repeated)) == pytest.approx(6 * (4 / 3) ** 2 / 3)
    torch.testing.assert_close(correlation(repeated), torch.ones(3, 3, dtype=torch.float64))
    torch.testing.assert_close(correlation(PLAIN), torch.eye(3, dtype=torch.float64))


def test_invariances(z, rng):
    order, scale = torch.randperm(9, generator=rng), torch.rand(4, generator=rng).double() + 0.5
    for same in (z[order], z + 5):
        torch.testing.assert_close(variance_cost(same), variance_cost(z))
        torch.testing.assert_close(covariance_cost(same), covariance_cost(z))
        torch.testing.assert_close(correlation(same), correlation(z))
    torch.testing.assert_close(correlation(z * scale), correlation(z))
    assert not torch.isclose(covariance_cost(z * scale), covariance_cost(z))


@pytest.mark.parametrize("measure", [variance_cost, covariance_cost, correlation, lambda z: cross_correlation(z, z)])
def test_gradients_stay_finite_if_all_rows_are_equal(measure):
    z = torch.ones(6, 3).requires_grad_()
    measure(z).sum().backward()
    assert z.grad.isfinite().all()
    assert z.grad.abs().max() < 1e4
