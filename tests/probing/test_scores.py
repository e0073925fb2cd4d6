"""Scores by hand and against scikit-learn, ridge regression, draws by class and intervals of means over draws."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from ssl_runner.probing.label_efficiency import half_width, overlap, rank_within_class, stratified_sample
from ssl_runner.probing.linear import fit_ridge, mean_average_precision, r_squared, ridge_path
from ssl_runner.probing.protocol import top_accuracies


def test_scores_by_hand_and_by_scikit_learn(rng):
    """Positives at ranks 1 and 3: (1/1 + 2/3) / 2. Equal scores pass a threshold together: one precision for both."""
    guesses = torch.tensor([[0, 1], [1, -1], [2, 0]])
    assert top_accuracies(guesses, torch.tensor([0, 1, 0]), 5) == {"top1": pytest.approx(2 / 3)}
    assert top_accuracies(guesses, torch.tensor([0, -1, 0]), 6) == {"top1": pytest.approx(1 / 3), "top5": 1}
    ranked, truth = torch.tensor([[0.9, 0.8, 0.7, 0.1]]).T, torch.tensor([[True, False, True, False]]).T
    assert mean_average_precision(ranked, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision(torch.ones(4, 1), truth) == pytest.approx(0.5)
    assert math.isnan(mean_average_precision(ranked, torch.zeros(4, 1, dtype=torch.bool)))
    scores = torch.randn(90, 4, generator=rng).round(decimals=1)  # with ties
    truth = torch.rand(90, 4, generator=rng) < torch.tensor([0.5, 0.1, 0.9, 0.0])
    each = [average_precision_score(truth[:, label].numpy(), scores[:, label].numpy()) for label in range(3)]
    assert mean_average_precision(scores, truth) == pytest.approx(sum(each) / 3)
    truth = torch.randn(50, 3, generator=rng).double() * torch.tensor([1, 5, 0.1])
    guess = truth + torch.randn(50, 3, generator=rng)
    expected = r2_score(truth.numpy(), guess.numpy(), multioutput="variance_weighted")
    assert r_squared(guess, truth) == pytest.approx(expected)
    assert r_squared(truth.mean(0).expand(50, 3), truth) == pytest.approx(0)
    assert r_squared(truth, truth) == 1
    assert math.isnan(r_squared(truth, torch.ones(50, 3).double()))


def test_ridge_by_hand():
    """Rows -1 and 1 with values 1 and 5: the slope is 2 / (1 + l2) about the mean 3."""
    x, y = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[1.0], [5.0]]).double()
    path = ridge_path(x, y, (0.25, 1.0))
    assert [fitted.l2 for fitted in path] == [1.0, 0.25]
    for fitted in path:
        assert float(fitted.scores(x)[1, 0]) == pytest.approx(3 + 2 / (1 + fitted.l2))
    one = fit_ridge(x[:1], y[:1], l2=(1e-3, 1.0), held_out=0.2)  # nothing can be held out
    assert (one.l2, float(one.scores(x[:1]))) == (1.0, 1.0)


def test_intervals_cover_other_labels_also_if_draws_overlap(rng):
    """A score is the mean of its rows, with mean 0 where they come from: 19 of 20 intervals hold it, by any bank."""
    assert half_width([0.4, 0.5, 0.6], 0.0) == pytest.approx(4.3026527 * 0.1 / 3**0.5)  # draws that share nothing
    assert half_width([0.5, 0.5, 0.5], 0.1) is half_width([0.5], 0.1) is None  # no width without spread
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
    for drawn, held, share in (
        ([100, 100], [120, 120], 100 / 120),
        ([5, 5, 0], [50, 50, 0], 0.1),
        ([100, 100], [10_000, 120], 50 * (1e-4 + 1 / 120)),
        ([5, 3], [10, 3], (1 / 10 + 1 / 3) / (1 / 5 + 1 / 3)),
    ):
        assert overlap(torch.tensor(drawn), torch.tensor(held)) == pytest.approx(share)


def test_draws_take_so_many_of_each_class_or_its_share(rng):
    y = torch.tensor([0] * 10 + [2] * 3 + [1])[torch.randperm(14, generator=rng)]
    ranks = rank_within_class(y, rng)
    for label, count in enumerate((10, 1, 3)):
        assert ranks[y == label].sort().values.tolist() == list(range(count))
    assert y[ranks < 2].bincount().tolist() == [2, 1, 2]
    firsts = [int(rank_within_class(torch.zeros(4).long(), rng).argmin()) for _ in range(400)]
    assert all(60 < firsts.count(row) < 140 for row in range(4))
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rows = stratified_sample(y, 20, rng)
    assert y[rows].bincount().tolist() == [12, 6, 2]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert stratified_sample(y, 1000, rng).tolist() == list(range(100))
