"""The score of a guess among classes, by hand."""

import math

import pytest
import torch

from ssl_runner.loss.classification import score


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_score_by_hand(loss):
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    value, hits = score(logits, target, loss)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.e)) / 2 if loss == "cross_entropy" else (1 + 0 + 1 + 1) / 4
    assert value.item() == pytest.approx(expected)
    assert hits.tolist() == [1, 0]
