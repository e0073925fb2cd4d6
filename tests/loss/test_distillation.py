"""Cross-entropy between views against its equation, written as loops, and where it is known."""

import math

import pytest
import torch

from ssl_runner.loss.distillation import view_cross_entropy


def test_it_is_the_mean_over_samples_and_pairs_of_different_views(rng):
    teacher = torch.randn(2, 3, 5, generator=rng).softmax(2)
    student = torch.randn(4, 3, 5, generator=rng).requires_grad_()
    pairs = [
        -sum(teacher[t, b, k] * (student[v, b] / 0.3).log_softmax(0)[k] for k in range(5))
        for t in range(2)
        for v in range(4)
        for b in range(3)
        if t != v
    ]
    value = view_cross_entropy(teacher, student, 0.3)
    torch.testing.assert_close(value, sum(pairs) / len(pairs))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view_cross_entropy(teacher, student, 0.3), value)
    value.backward()
    teacher[0, 0, 0] += 1  # the first view's target is not the first view's to match
    (moved,) = torch.autograd.grad(view_cross_entropy(teacher, student, 0.3), student)
    assert torch.equal(moved[0, 0], student.grad[0, 0])
    assert not torch.equal(moved[1, 0], student.grad[1, 0])


def test_identities(rng):
    teacher, student = torch.randn(2, 6, 7, generator=rng).softmax(2), torch.randn(3, 6, 7, generator=rng)
    value, order = view_cross_entropy(teacher, student, 0.1), torch.randperm(7, generator=rng)
    torch.testing.assert_close(view_cross_entropy(teacher[..., order], student[..., order], 0.1), value)
    torch.testing.assert_close(view_cross_entropy(teacher, student + 3, 0.1), value)  # of a softmax
    assert view_cross_entropy(teacher, torch.zeros(3, 6, 7), 0.1).item() == pytest.approx(math.log(7))
    own = student[:1].expand(3, -1, -1)  # a student that gives the teacher's answer costs its entropy
    entropy = torch.special.entr((own[0] / 0.1).softmax(1)).sum(1).mean()
    torch.testing.assert_close(view_cross_entropy((own[:2] / 0.1).softmax(2), own, 0.1), entropy)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="two views or more, given 1"):
        view_cross_entropy(torch.ones(1, 2, 3), torch.ones(1, 2, 3), 0.1)
