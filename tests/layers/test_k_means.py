"""K-means: clusters that are there are found, each step is no worse, and a seed gives the same once more."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from ssl_runner.layers import k_means as module
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.k_means import k_means


def draws(seed: int = 0) -> CounterRng:
    return CounterRng(seed, torch.device("cpu"))


def test_clusters_that_are_there_are_found_at_any_length_of_rows(rng):
    directions = torch.eye(5)
    x = directions.repeat_interleave(20, 0) + 0.1 * torch.randn(100, 5, generator=rng)
    centroids, clusters = max((k_means(x, 5, 10, draws(seed)) for seed in range(8)), key=lambda each: fit(x, *each))
    torch.testing.assert_close(centroids[clusters], directions.repeat_interleave(20, 0), rtol=0, atol=0.1)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(5))
    again = k_means(x * torch.rand(100, 1, generator=rng).add(0.1), 5, 10, draws(3))
    assert torch.equal(again[1], k_means(x, 5, 10, draws(3))[1])


def fit(x, centroids, clusters):
    return float((F.normalize(x, dim=1) * centroids[clusters]).sum(1).mean())


def test_the_similarity_to_centroids_never_falls_and_rows_are_with_the_nearest(rng, monkeypatch):
    x = torch.randn(200, 6, generator=rng)
    results = [k_means(x, 12, rounds, draws()) for rounds in range(12)]
    fits = [fit(x, *each) for each in results]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(fits))
    assert fits[-1] > fits[0] + 0.05
    assert all(torch.equal(rows, (x @ centroids.T).argmax(1)) for centroids, rows in results)
    monkeypatch.setattr(module, "AT_ONCE", 64)  # a part of the rows at a time
    torch.testing.assert_close(k_means(x, 12, 11, draws()), results[-1])


def test_each_row_can_be_a_cluster_and_an_empty_one_keeps_its_centroid(rng):
    x = F.normalize(torch.randn(7, 4, generator=rng), dim=1)
    assert sorted(k_means(x, 7, 5, draws())[1].tolist()) == list(range(7))
    centroids, clusters = k_means(x[:1].expand(6, -1), 3, 4, draws())  # all rows are with the first
    assert clusters.unique().tolist() == [0]
    torch.testing.assert_close(centroids, x[:1].expand(3, -1))
    centroids, clusters = k_means(x, 20, 5, draws())  # more clusters than rows
    assert sorted(clusters.tolist()) == list(range(7))
    torch.testing.assert_close(centroids.norm(dim=1), torch.tensor([1.0] * 7 + [0.0] * 13))


def test_clusters_by_distance_are_told_apart_where_directions_are_alike(rng):
    centres = torch.tensor([[1.0, 1.0], [3.0, 3.0], [0.0, 0.0]])  # one is at no direction at all
    x = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2, generator=rng)

    def distance(centroids, clusters):
        assert torch.equal(torch.cdist(x, centroids).argmin(1), clusters)
        return float((x - centroids[clusters]).square().sum())

    assert k_means(x, 20, 0, draws(), spherical=False)[1].unique().numel() > 3
    centroids, clusters = min(
        (k_means(x, 3, 10, draws(seed), spherical=False) for seed in range(8)), key=lambda each: distance(*each)
    )
    torch.testing.assert_close(centroids[clusters], centres.repeat_interleave(20, 0), rtol=0, atol=0.1)
    sums = [distance(*k_means(x, 3, rounds, draws(), spherical=False)) for rounds in range(6)]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(sums))


@pytest.mark.parametrize("spherical", [True, False])
def test_the_nearest_centroid_is_the_same_under_autocast(spherical, rng):
    """What rows have in common is large beside their differences, as in a block's outputs: bfloat16 keeps 8 bits."""
    x, centroids = (3 + 0.1 * torch.randn(n, 32, generator=rng) for n in (200, 16))
    x, centroids = (F.normalize(each, dim=1) if spherical else each for each in (x, centroids))
    without = module.nearest(x, centroids, spherical)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module.nearest(x, centroids, spherical), without)
