"""Scores by hand and against scikit-learn; ridge and label regressions against theirs."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from ssl_runner.probing.regression import fit_ridge, ridge_path
from ssl_runner.probing.scores import average_precision, mean_average_precision, r_squared, top_accuracies


def test_top_accuracies_by_hand():
    guesses = torch.tensor([[0, 1], [1, -1], [2, 0]])
    assert top_accuracies(guesses, torch.tensor([0, 1, 0]), 5) == {"top1": pytest.approx(2 / 3)}
    assert top_accuracies(guesses, torch.tensor([0, -1, 0]), 6) == {"top1": pytest.approx(1 / 3), "top5": 1}


def test_average_precision_by_hand():
    """Positives at ranks 1 and 3: (1/1 + 2/3) / 2. Equal scores pass a threshold together: one precision for both."""
    scores, truth = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(torch.ones(4), truth) == pytest.approx(0.5)
    assert math.isnan(average_precision(scores, torch.zeros(4, dtype=torch.bool)))


def test_mean_average_precision_is_scikit_learns_of_labels_that_occur():
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(90, 4, generator=rng).round(decimals=1)  # with ties
    truth = torch.rand(90, 4, generator=rng) < torch.tensor([0.5, 0.1, 0.9, 0.0])
    expected = average_precision_score(truth[:, :3].numpy(), scores[:, :3].numpy(), average="macro")
    assert mean_average_precision(scores, truth) == pytest.approx(expected)


def test_r_squared_is_scikit_learns_over_all_components():
    rng = torch.Generator().manual_seed(0)
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
    for penalty, fitted in ridge_path(x, y, (0.25, 1.0)):
        torch.testing.assert_close(fitted.scores(x)[1, 0], torch.tensor(3 + 2 / (1 + penalty)).double())
    assert [penalty for penalty, _ in ridge_path(x, y, (0.25, 1.0))] == [1.0, 0.25]
    one = fit_ridge(x[:1], y[:1], l2=(1e-3, 1.0), held_out=0.2)  # nothing can be held out
    assert (one.l2, float(one.scores(x[:1]))) == (1.0, 1.0)
