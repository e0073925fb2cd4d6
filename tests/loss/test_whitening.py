"""Whitening: rows of mean 0 and covariance I, in float64, as by an exact factor, with gradients through statistics."""

import pytest
import torch

from ssl_runner.loss.whitening import cholesky_whitening, iterative_whitening

FLOAT64 = {"dtype": torch.float64}


@pytest.fixture
def z(rng):
    """Rows whose covariance has a condition number of about 10."""
    return 2 + torch.randn(40, 6, generator=rng, **FLOAT64) @ (
        torch.eye(6, **FLOAT64) + 0.3 * torch.tril(torch.ones(6, 6))
    )


def test_cholesky_whitening_is_exact_and_of_each_batch_alone(z):
    v = cholesky_whitening(z, 0.0)
    torch.testing.assert_close(v.mean(0), torch.zeros(6, **FLOAT64))
    torch.testing.assert_close(torch.cov(v.T), torch.eye(6, **FLOAT64))
    factor = torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T)))
    torch.testing.assert_close(v, (z - z.mean(0)) @ factor.T)
    first, second = cholesky_whitening(z.unflatten(0, (2, 20)), 0.0)
    torch.testing.assert_close(second, cholesky_whitening(z[20:], 0.0))
    torch.testing.assert_close(first, cholesky_whitening(3 * z[:20] + 1, 0.0))  # no scale, no shift


def test_shrinkage_mixes_the_identity_in_and_keeps_singular_covariances_finite(z):
    v = cholesky_whitening(z, 0.3)
    factor = torch.linalg.cholesky(0.7 * torch.cov(z.T) + 0.3 * torch.eye(6, **FLOAT64))
    torch.testing.assert_close(v @ factor.T, z - z.mean(0))
    for singular in (z[:4], torch.ones(8, 6, **FLOAT64)):
        singular = singular.clone().requires_grad_()
        v = cholesky_whitening(singular, 1e-4)
        v.square().sum().backward()
        assert v.isfinite().all()
        assert singular.grad.isfinite().all()


def test_iterative_whitening_comes_to_the_inverse_square_root_in_each_group(z):
    for groups in (1, 2, 6):
        v = iterative_whitening(z, groups)
        cov = torch.cov(v.T, correction=0)
        for block in range(groups):
            part = slice(block * 6 // groups, (block + 1) * 6 // groups)
            assert (cov[part, part] - torch.eye(6 // groups, **FLOAT64)).abs().max() < 1e-2 * (1 if groups > 1 else 3)
    values, vectors = torch.linalg.eigh(torch.cov(z.T, correction=0))
    exact = (z - z.mean(0)) @ vectors @ (values**-0.5).diag() @ vectors.T
    torch.testing.assert_close(iterative_whitening(z, 1, iterations=30, eps=0.0), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("whiten", [lambda z: cholesky_whitening(z, 0.0), lambda z: iterative_whitening(z, 2, 3)])
def test_the_gradient_is_through_the_statistics_too(whiten, z):
    assert torch.autograd.gradcheck(whiten, z[:9].clone().requires_grad_())
