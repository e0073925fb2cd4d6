"""Losses of hidden tokens and of token similarities by hand, and Sinkhorn's rows that do not count."""

import math

import pytest
import torch

from ssl_runner.loss.distillation import similarity_error, token_cross_entropy
from ssl_runner.loss.koleo import neighbour_cost
from ssl_runner.loss.sinkhorn import sinkhorn


def one_hot(*classes):
    return torch.eye(4)[torch.tensor(classes)]


def test_the_loss_of_hidden_tokens_is_a_mean_over_an_images_tokens_and_then_over_images():
    logits = torch.tensor([[math.log(3.0), 0, 0, 0]]).expand(3, 2, 4)  # 1/2, and 1/6 each
    targets = torch.stack([one_hot(0, 0), one_hot(0, 1), one_hot(1, 1)])
    hidden = torch.tensor([[True, True], [True, False], [False, False]])
    expected = (math.log(2) + math.log(2) + 0) / 3
    torch.testing.assert_close(token_cross_entropy(targets, logits, hidden, 1.0), torch.tensor(expected))
    assert token_cross_entropy(targets, logits, torch.zeros(3, 2, dtype=torch.bool), 1.0) == 0
    sharper = token_cross_entropy(targets, logits, hidden, 0.5)  # 9 : 1 : 1 : 1
    torch.testing.assert_close(sharper, torch.tensor(2 * math.log(12 / 9) / 3))


def test_the_error_of_similarities_by_hand_and_what_it_does_not_see():
    alike, apart = torch.ones(1, 2, 2), torch.eye(2)[None]
    torch.testing.assert_close(similarity_error(alike, apart), torch.tensor(0.5))  # two of four cosines are off by 1
    tokens, anchor = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    expected = similarity_error(tokens, anchor)
    torch.testing.assert_close(similarity_error(2 * tokens @ turn, anchor), expected)  # a space and a length of its own
    order = torch.randperm(5)
    torch.testing.assert_close(similarity_error(tokens[:, order], anchor[:, order]), expected)
    assert similarity_error(tokens, tokens @ turn) < 1e-10
    assert not torch.isclose(similarity_error(tokens[:, order], anchor), expected)


def test_rows_that_do_not_count_are_assigned_and_change_no_other():
    logits = 3 * torch.randn(12, 4)
    counted = torch.arange(12) < 7
    torch.testing.assert_close(sinkhorn(logits, 3, counted=counted)[:7], sinkhorn(logits[:7], 3))
    torch.testing.assert_close(sinkhorn(logits, 3, counted=torch.ones(12, dtype=torch.bool)), sinkhorn(logits, 3))
    none = sinkhorn(logits, 3, counted=torch.zeros(12, dtype=torch.bool))
    assert none.isfinite().all()
    assert not torch.allclose(sinkhorn(logits, 3)[:7], sinkhorn(logits[:7], 3))


def test_each_place_is_assigned_by_itself():
    logits = 3 * torch.randn(6, 5, 4)
    places = sinkhorn(logits, 3)
    for place in range(5):
        torch.testing.assert_close(places[:, place], sinkhorn(logits[:, place], 3))
    torch.testing.assert_close(sinkhorn(logits, 300).sum(0), torch.full((5, 4), 1.5), rtol=1e-3, atol=1e-3)
    counted = torch.rand(6, 5) < 0.5
    torch.testing.assert_close(
        sinkhorn(logits, 3, counted=counted)[:, 1], sinkhorn(logits[:, 1], 3, counted=counted[:, 1])
    )


def test_the_cost_of_neighbours_by_hand():
    corners = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])  # unit rows sqrt(2) from their nearest
    assert float(neighbour_cost(corners)) == pytest.approx(-math.log(2) / 2, abs=1e-6)
    assert float(neighbour_cost(torch.ones(3, 2))) == pytest.approx(math.log(1e4), rel=1e-5)
