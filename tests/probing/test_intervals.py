"""Intervals of means over draws that share rows, and draws by class."""

import pytest
import torch
from scipy.stats import t

from ssl_runner.probing.intervals import half_width, overlap
from ssl_runner.probing.sampling import rank_within_class, stratified_sample


def test_the_half_width_by_hand():
    """Deviation 0.1 of three draws: 4.303 * 0.1 / sqrt(3) if they share nothing; no width without spread."""
    assert half_width([0.4, 0.5, 0.6], 0.0) == pytest.approx(4.3026527 * 0.1 / 3**0.5)
    assert half_width([0.4, 0.5, 0.6], 0.0, 0.9) == pytest.approx(t.interval(0.9, 2, 0, 0.1 / 3**0.5)[1])
    assert half_width([0.5, 0.5, 0.5], 0.1) is None
    assert half_width([0.5], 0.1) is None


def test_it_covers_other_labels_also_if_draws_overlap():
    """A score is the mean of its rows, with mean 0 where they come from: 19 of 20 intervals hold it, by any bank."""
    rng = torch.Generator().manual_seed(0)
    for held, drawn in ((1000, 5), (120, 40), (120, 100)):
        inside = plain = 0
        for _ in range(1000):
            bank = torch.randn(held, generator=rng)
            scores = [float(bank[torch.randperm(held, generator=rng)[:drawn]].mean()) for _ in range(5)]
            mean = abs(sum(scores) / 5)
            inside += mean < half_width(scores, drawn / held)
            plain += mean < half_width(scores, 0.0)
        assert 0.93 < inside / 1000 < 0.97
    assert plain / 1000 < 0.45  # what an interval that takes draws for independent says of 100 rows of 120


def test_rows_in_common_by_hand():
    """Of equal classes the share of the bank; a class nearly used up counts whatever the size of the others."""
    assert overlap(torch.tensor([100, 100]), torch.tensor([120, 120])) == pytest.approx(100 / 120)
    assert overlap(torch.tensor([5, 5, 0]), torch.tensor([50, 50, 0])) == pytest.approx(0.1)
    assert overlap(torch.tensor([100, 100]), torch.tensor([10_000, 120])) == pytest.approx(50 * (1e-4 + 1 / 120))
    assert overlap(torch.tensor([5, 3]), torch.tensor([10, 3])) == pytest.approx((1 / 10 + 1 / 3) / (1 / 5 + 1 / 3))


def test_ranks_within_a_class_draw_so_many_of_each():
    y = torch.tensor([0] * 10 + [2] * 3 + [1])[torch.randperm(14, generator=torch.Generator().manual_seed(0))]
    ranks = rank_within_class(y, torch.Generator().manual_seed(0))
    for label, count in enumerate((10, 1, 3)):
        assert ranks[y == label].sort().values.tolist() == list(range(count))
    assert y[ranks < 2].bincount().tolist() == [2, 1, 2]
    alike = torch.zeros(4).long()
    firsts = [int(rank_within_class(alike, torch.Generator().manual_seed(s)).argmin()) for s in range(400)]
    assert all(60 < firsts.count(row) < 140 for row in range(4))


def test_a_stratified_sample_takes_each_class_by_its_share():
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rows = stratified_sample(y, 20, torch.Generator().manual_seed(0))
    assert y[rows].bincount().tolist() == [12, 6, 2]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert stratified_sample(y, 1000, torch.Generator()).tolist() == list(range(100))
