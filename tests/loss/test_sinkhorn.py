"""Sinkhorn-Knopp against the algorithm as the paper writes it, its shares, and the rows that count for nothing."""

import pytest
import torch

from ssl_runner.loss.sinkhorn import perplexity, sinkhorn


def as_written(scores, iterations):
    """Exponentials, columns to 1 / K and then rows to 1 / B, in turn."""
    q = scores.exp() / scores.exp().sum()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


@pytest.fixture
def logits(rng, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    return 3 * torch.randn(12, 4, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_assignments_are_those_of_the_algorithm_as_written(logits, iterations):
    torch.testing.assert_close(sinkhorn(logits, iterations), as_written(logits, iterations))


def test_rows_sum_to_one_and_columns_to_an_equal_share(logits):
    torch.testing.assert_close(sinkhorn(logits, 3).sum(1), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(sinkhorn(logits, 200).sum(0), torch.full((4,), 3.0, dtype=torch.float64))
    skewed = logits + torch.tensor([50.0, 0, 0, 0])  # a softmax would give one column all of it
    assert logits.add(torch.tensor([50.0, 0, 0, 0])).softmax(1)[:, 0].min() > 0.99
    torch.testing.assert_close(sinkhorn(skewed, 200), sinkhorn(logits, 200))


def test_a_permutation_of_columns_or_rows_is_one_of_assignments_and_equal_rows_are_shared_out(logits):
    rows, columns = torch.randperm(12), torch.randperm(4)
    torch.testing.assert_close(sinkhorn(logits[rows][:, columns], 3), sinkhorn(logits, 3)[rows][:, columns])
    torch.testing.assert_close(sinkhorn(logits[:1].expand(12, -1), 3), torch.full((12, 4), 0.25, dtype=torch.float64))
    assert sinkhorn(200 * torch.randn(6, 4), 3).isfinite().all()


def test_others_are_assigned_beside_the_rows_as_far_as_they_count(logits):
    own, others = logits[:5], logits[5:]
    assert torch.equal(sinkhorn(own, 3, others), sinkhorn(own, 3, others, torch.ones(())))
    torch.testing.assert_close(sinkhorn(own, 3, others), as_written(logits, 3)[:5])
    torch.testing.assert_close(sinkhorn(own, 3, others, torch.zeros(())), sinkhorn(own, 3))
    assert not torch.allclose(sinkhorn(own, 3, others), sinkhorn(own, 3))


def test_perplexity_counts_the_prototypes_in_use():
    one = torch.zeros(6, 4).index_fill_(1, torch.tensor([2]), 1.0)
    torch.testing.assert_close(perplexity(one), torch.ones(()))
    torch.testing.assert_close(perplexity(torch.eye(4)), torch.tensor(4.0))
    torch.testing.assert_close(perplexity(torch.eye(4)[:2]), torch.tensor(2.0))
