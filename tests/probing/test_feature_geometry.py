"""Geometry of features: hand-solved clouds, planted spectra, peers, and what must not change them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from scipy.spatial.distance import pdist
from torch import Tensor

from ssl_runner.probing import geometry

N, D = 200, 16


@pytest.fixture
def z(rng: torch.Generator) -> Tensor:
    return torch.randn(N, D, generator=rng) * torch.linspace(1, 3, D) + 1


def rotation(d: int, rng: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q


def planted(singular: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Centred features with these singular values."""
    d = len(singular)
    columns = torch.randn(n, d, generator=rng, dtype=torch.float64)
    u = torch.linalg.qr(columns - columns.mean(0)).Q
    return u * singular @ rotation(d, rng).T


def test_effective_rank_by_hand() -> None:
    assert geometry.effective_rank(torch.ones(7)) == pytest.approx(7)
    assert geometry.effective_rank(torch.tensor([5.0, 0, 0])) == 1
    assert geometry.effective_rank(torch.zeros(3)) == 0
    half = math.exp(-(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)))
    assert geometry.effective_rank(torch.tensor([2.0, 1, 1])) == pytest.approx(half)


def test_rankme_is_the_rank_of_a_flat_spectrum_and_one_for_a_point(rng: torch.Generator) -> None:
    singular = torch.tensor([3.0] * 5 + [0.0] * 11, dtype=torch.float64)
    assert geometry.rankme(planted(singular, N, rng)) == pytest.approx(5)
    assert geometry.rankme(torch.ones(N, D)) == pytest.approx(1, abs=1e-4)
    assert geometry.rankme(torch.zeros(N, D)) == 0


def test_rankme_equals_scipys_entropy_of_numpys_singular_values(z: Tensor) -> None:
    from scipy.stats import entropy

    assert geometry.rankme(z) == pytest.approx(np.exp(entropy(np.linalg.svd(z.double().numpy(), compute_uv=False))))


def test_rank_takes_the_mean_off(rng: torch.Generator) -> None:
    singular = torch.tensor([1.0] * 4 + [0.0] * 12, dtype=torch.float64)
    cloud = planted(singular, N, rng)
    assert geometry.centred_rank(cloud + 100) == pytest.approx(4, rel=1e-6)
    assert geometry.rankme(cloud + 100) < 1.1, "the mean outweighs all else"
    assert geometry.centred_rank(torch.full((N, D), 0.5)) == 0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("d", [8, 64, 128])
def test_alpha_req_finds_a_planted_exponent(alpha: float, d: int, rng: torch.Generator) -> None:
    eigenvalues = torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), N, rng) + 3) == pytest.approx(alpha, rel=1e-6)


def test_alpha_req_reads_eigenvalues_11_to_50_only(rng: torch.Generator) -> None:
    eigenvalues = torch.arange(1, 129, dtype=torch.float64) ** -1.0
    eigenvalues[:10], eigenvalues[50:] = 1e3, 1e-6
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), N, rng)) == pytest.approx(1, rel=1e-6)
    eigenvalues[10] *= 2  # the eleventh counts
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), N, rng)) > 1.1


def test_alpha_req_weighs_by_one_over_n() -> None:
    """numpy.polyfit takes the square roots of the weights."""
    rng = torch.Generator().manual_seed(3)
    eigenvalues = (-torch.rand(12, generator=rng, dtype=torch.float64).cumsum(0)).exp()
    n = np.arange(1, 13)
    slope = np.polyfit(np.log(n), np.log(eigenvalues.numpy()), 1, w=np.sqrt(1 / n))[0]
    assert geometry.alpha_req(planted(eigenvalues.sqrt(), N, rng)) == pytest.approx(-slope, rel=1e-6)


def test_alpha_req_of_too_short_a_spectrum_is_nan(rng: torch.Generator) -> None:
    assert math.isnan(geometry.alpha_req(torch.ones(N, D)))
    assert math.isnan(geometry.alpha_req(torch.randn(N, 2, generator=rng)))


def test_lidar_equals_the_generalised_eigenproblem(rng: torch.Generator) -> None:
    views = torch.randn(40, 1, D, generator=rng).double() * 2 + torch.randn(40, 5, D, generator=rng).double()
    means = views.mean(1)
    within = (views - means[:, None]).flatten(0, 1)
    sigma_w = within.T @ within / len(within)
    sigma_w += 1e-4 * sigma_w.trace() / D * torch.eye(D)
    between = means - means.mean(0)
    values = eigh((between.T @ between / 40).numpy(), sigma_w.numpy(), eigvals_only=True)
    assert geometry.lidar(views) == pytest.approx(geometry.effective_rank(torch.tensor(values).clamp(min=0)), rel=1e-6)


def test_lidar_counts_the_directions_that_tell_samples_apart(rng: torch.Generator) -> None:
    """Noise of views fills all 16 dimensions, samples differ in three of them: RankMe is fooled and LiDAR is not."""
    samples = F.pad(torch.randn(500, 3, generator=rng), (0, D - 3))
    views = 10 * samples[:, None] + torch.randn(500, 8, D, generator=rng)
    assert geometry.lidar(views) == pytest.approx(3, abs=0.35)
    assert geometry.centred_rank(views.flatten(0, 1)) > 7


def test_lidar_of_points() -> None:
    assert geometry.lidar(torch.ones(10, 4, D)) == 0
    apart = torch.eye(10, D)[:, None].expand(10, 4, D)  # views that are all the same
    assert geometry.lidar(apart) == pytest.approx(9)


def test_alignment_and_uniformity_by_hand() -> None:
    right_angle = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [0, 1]]])  # squared distances of two views: 2 and 0
    assert geometry.alignment(right_angle) == pytest.approx(1)
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # 4 pairs at squared distance 2, 2 pairs at 4
    assert geometry.uniformity(cross) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert geometry.uniformity(torch.tensor([[1.0, 0]] * 5)) == pytest.approx(0, abs=1e-6)


def test_alignment_and_uniformity_equal_scipys_distances(z: Tensor) -> None:
    u = F.normalize(z, dim=1)
    pairs = pdist(u.double().numpy(), "sqeuclidean")
    assert geometry.uniformity(u) == pytest.approx(np.log(np.exp(-2 * pairs).mean()))
    views = u.view(N // 4, 4, D)
    means = np.mean([pdist(each.double().numpy(), "sqeuclidean").mean() for each in views])
    assert geometry.alignment(views) == pytest.approx(means)


def test_the_deviation_is_one_on_the_sphere_and_zero_at_a_point(rng: torch.Generator) -> None:
    sphere = F.normalize(torch.randn(20_000, D, generator=rng), dim=1)
    assert geometry.unit_std(sphere) == pytest.approx(1, abs=0.02)
    assert geometry.unit_std(sphere[:1].expand(50, D)) == pytest.approx(0, abs=1e-6)


def test_dead_dimensions_are_counted_whatever_their_value(z: Tensor) -> None:
    assert geometry.dead_share(z) == 0
    z[:, :4] = torch.tensor([0.0, 1.0, -2.0, 3.0])
    z[:, 4] *= 1e-5
    assert geometry.dead_share(z) == 5 / D
    assert geometry.dead_share(torch.zeros(N, D)) == geometry.dead_share(torch.ones(N, D)) == 1


CLOUD: dict[str, Callable[[Tensor], float]] = {
    "rankme": geometry.rankme,
    "rank": geometry.centred_rank,
    "alpha_req": geometry.alpha_req,
    "lidar": lambda z: geometry.lidar(z.view(N // 4, 4, D)),
    "unit_std": lambda z: geometry.unit_std(F.normalize(z, dim=1)),
    "uniformity": lambda z: geometry.uniformity(F.normalize(z, dim=1)),
    "alignment": lambda z: geometry.alignment(F.normalize(z, dim=1).view(N // 4, 4, D)),
    "dead": geometry.dead_share,
}


@pytest.mark.parametrize("name", CLOUD)
def test_scale_does_not_matter(name: str, z: Tensor) -> None:
    for scale in (1e-4, 1e4):
        assert CLOUD[name](scale * z) == pytest.approx(CLOUD[name](z), rel=1e-4)


@pytest.mark.parametrize("name", ["rankme", "rank", "alpha_req", "lidar", "uniformity", "alignment"])
def test_rotation_does_not_matter(name: str, z: Tensor, rng: torch.Generator) -> None:
    assert CLOUD[name](z.double() @ rotation(D, rng)) == pytest.approx(CLOUD[name](z), rel=1e-6)


@pytest.mark.parametrize("name", ["rank", "alpha_req", "lidar"])
def test_a_shift_does_not_matter(name: str, z: Tensor) -> None:
    assert CLOUD[name](z.double() + torch.arange(D)) == pytest.approx(CLOUD[name](z), rel=1e-6)
