"""Geometry of features: hand-solved clouds, planted spectra, peers, and what must not change them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from ssl_runner.probing import geometry

N, D = 200, 16
approx = pytest.approx


@pytest.fixture
def z(rng):
    return torch.randn(N, D, generator=rng) * torch.linspace(1, 3, D) + 1


def rotation(d, rng):
    return torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q


def planted(singular, rng):
    """N centred features with these singular values."""
    columns = torch.randn(N, len(singular), generator=rng, dtype=torch.float64)
    u = torch.linalg.qr(columns - columns.mean(0)).Q
    return u * torch.as_tensor(singular, dtype=torch.float64) @ rotation(len(singular), rng).T


def test_ranks_of_planted_spectra(z, rng):
    assert geometry.effective_rank(torch.ones(7)) == approx(7)
    assert geometry.effective_rank(torch.tensor([5.0, 0, 0])) == 1
    assert geometry.effective_rank(torch.zeros(3)) == geometry.rankme(torch.zeros(N, D)) == 0
    half = math.exp(-(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)))
    assert geometry.effective_rank(torch.tensor([2.0, 1, 1])) == approx(half)
    assert geometry.rankme(planted([3.0] * 5 + [0.0] * 11, rng)) == approx(5)
    assert geometry.rankme(torch.ones(N, D)) == approx(1, abs=1e-4)
    assert geometry.rankme(z) == approx(np.exp(entropy(np.linalg.svd(z.double().numpy(), compute_uv=False))))
    cloud = planted([1.0] * 4 + [0.0] * 12, rng) + 100
    assert geometry.rankme(cloud) < 1.1, "the mean outweighs all else"
    assert geometry.centred_rank(cloud) == approx(4, rel=1e-6)
    assert geometry.centred_rank(torch.full((N, D), 0.5)) == 0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("d", [8, 64, 128])
def test_alpha_req_finds_a_planted_exponent(alpha, d, rng):
    eigenvalues = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), rng) + 3) == approx(alpha, rel=1e-6)


def test_alpha_req_reads_eigenvalues_11_to_50_and_weighs_them_by_one_over_n(rng):
    eigenvalues = torch.arange(1, 129, dtype=torch.float64) ** -1.0
    eigenvalues[:10], eigenvalues[50:] = 1e3, 1e-6
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), rng)) == approx(1, rel=1e-6)
    eigenvalues[10] *= 2  # the eleventh counts
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), rng)) > 1.1
    for short in (torch.ones(N, D), torch.randn(N, 2, generator=rng)):
        assert math.isnan(geometry.alpha_req(short))
    eigenvalues, n = (-torch.rand(12, generator=rng, dtype=torch.float64).cumsum(0)).exp(), np.arange(1, 13)
    slope = np.polyfit(np.log(n), np.log(eigenvalues.numpy()), 1, w=np.sqrt(1 / n))[0]  # it squares the weights
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), rng)) == approx(-slope, rel=1e-6)


def test_lidar_equals_the_generalised_eigenproblem(rng):
    views = torch.randn(40, 1, D, generator=rng).double() * 2 + torch.randn(40, 5, D, generator=rng).double()
    means = views.mean(1)
    within = (views - means[:, None]).flatten(0, 1)
    sigma_w = within.T @ within / len(within)
    sigma_w += 1e-4 * sigma_w.trace() / D * torch.eye(D)
    between = means - means.mean(0)
    values = eigh((between.T @ between / 40).numpy(), sigma_w.numpy(), eigvals_only=True)
    assert geometry.lidar(views) == approx(geometry.effective_rank(torch.tensor(values).clamp(min=0)), rel=1e-6)


def test_lidar_counts_the_directions_that_tell_samples_apart(rng):
    """Noise of views fills all 16 dimensions, samples differ in three of them: RankMe is fooled and LiDAR is not."""
    samples = F.pad(torch.randn(500, 3, generator=rng), (0, D - 3))
    views = 10 * samples[:, None] + torch.randn(500, 8, D, generator=rng)
    assert geometry.lidar(views) == approx(3, abs=0.35)
    assert geometry.centred_rank(views.flatten(0, 1)) > 7
    assert geometry.lidar(torch.ones(10, 4, D)) == 0
    assert geometry.lidar(torch.eye(10, D)[:, None].expand(10, 4, D)) == approx(9)  # views that are all the same


def test_alignment_and_uniformity_by_hand_and_by_scipys_distances(z):
    right_angle = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [0, 1]]])  # squared distances of two views: 2 and 0
    assert geometry.alignment(right_angle) == approx(1)
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # 4 pairs at squared distance 2, 2 pairs at 4
    assert geometry.uniformity(cross) == approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert geometry.uniformity(torch.tensor([[1.0, 0]] * 5)) == approx(0, abs=1e-6)
    u = F.normalize(z, dim=1)
    assert geometry.uniformity(u) == approx(np.log(np.exp(-2 * pdist(u.double().numpy(), "sqeuclidean")).mean()))
    views = u.view(N // 4, 4, D)
    assert geometry.alignment(views) == approx(np.mean([pdist(each.double().numpy(), "sqeuclidean") for each in views]))


def test_the_deviation_is_one_on_the_sphere_and_dead_dimensions_are_counted_whatever_their_value(z, rng):
    sphere = F.normalize(torch.randn(20_000, D, generator=rng), dim=1)
    assert geometry.unit_std(sphere) == approx(1, abs=0.02)
    assert geometry.unit_std(sphere[:1].expand(50, D)) == approx(0, abs=1e-6)
    assert geometry.dead_share(z) == 0
    z[:, :4] = torch.tensor([0.0, 1.0, -2.0, 3.0])
    z[:, 4] *= 1e-5
    assert geometry.dead_share(z) == 5 / D
    assert geometry.dead_share(torch.zeros(N, D)) == geometry.dead_share(torch.ones(N, D)) == 1


@pytest.mark.parametrize(
    "name", ["rankme", "centred_rank", "alpha_req", "lidar", "unit_std", "uniformity", "alignment", "dead_share"]
)
def test_scale_rotation_and_shift_do_not_matter(name, z, rng):
    def measure(z):
        z = F.normalize(z, dim=1) if name in ("unit_std", "uniformity", "alignment") else z
        return getattr(geometry, name)(z.view(N // 4, 4, D) if name in ("lidar", "alignment") else z)

    for scale in (1e-4, 1e4):
        assert measure(scale * z) == approx(measure(z), rel=1e-4)
    if name not in ("unit_std", "dead_share"):
        assert measure(z.double() @ rotation(D, rng)) == approx(measure(z), rel=1e-6)
    if name in ("centred_rank", "alpha_req", "lidar"):
        assert measure(z.double() + torch.arange(D)) == approx(measure(z), rel=1e-6)
