"""Losses against their equations, written as loops, and at the points that can be solved by hand."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from toys import number

from ssl_runner.loss.classification import score
from ssl_runner.loss.distillation import view_cross_entropy
from ssl_runner.loss.info_nce import info_nce, nt_xent


def test_score_by_hand():
    losses = {"cross_entropy": (math.log1p(math.exp(-2)) + math.log1p(math.e)) / 2, "mse": (1 + 0 + 1 + 1) / 4}
    for loss, expected in losses.items():
        value, hits = score(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), loss)
        assert (number(value), hits.tolist()) == (pytest.approx(expected), [1, 0])


def test_view_cross_entropy_is_the_mean_over_samples_and_pairs_of_different_views_and_its_identities(rng):
    teacher = torch.randn(2, 3, 5, generator=rng).softmax(2)
    student = torch.randn(4, 3, 5, generator=rng).requires_grad_()
    triples = [(t, v, b) for t, v, b in product(range(2), range(4), range(3)) if t != v]
    pairs = [-(teacher[t, b] * (student[v, b] / 0.3).log_softmax(0)).sum() for t, v, b in triples]
    value = view_cross_entropy(teacher, student, 0.3)
    torch.testing.assert_close(value, sum(pairs) / len(pairs))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view_cross_entropy(teacher, student, 0.3), value)
    value.backward()
    teacher[0, 0, 0] += 1  # the first view's target is not the first view's to match
    (moved,) = torch.autograd.grad(view_cross_entropy(teacher, student, 0.3), student)
    assert torch.equal(moved[0, 0], student.grad[0, 0])
    assert not torch.equal(moved[1, 0], student.grad[1, 0])
    with pytest.raises(ValueError, match="two views or more, given 1"):
        view_cross_entropy(torch.ones(1, 2, 3), torch.ones(1, 2, 3), 0.1)
    teacher, student = torch.randn(2, 6, 7, generator=rng).softmax(2), torch.randn(3, 6, 7, generator=rng)
    value, order = view_cross_entropy(teacher, student, 0.1), torch.randperm(7, generator=rng)
    torch.testing.assert_close(view_cross_entropy(teacher[..., order], student[..., order], 0.1), value)
    torch.testing.assert_close(view_cross_entropy(teacher, student + 3, 0.1), value)  # of a softmax
    assert number(view_cross_entropy(teacher, torch.zeros(3, 6, 7), 0.1)) == pytest.approx(math.log(7))
    own = student[:1].expand(3, -1, -1)  # a student that gives the teacher's answer costs its entropy
    entropy = torch.special.entr((own[0] / 0.1).softmax(1)).sum(1).mean()
    torch.testing.assert_close(view_cross_entropy((own[:2] / 0.1).softmax(2), own, 0.1), entropy)


def test_nt_xent_solved_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])  # positives at cosine 1, negatives at 0
    swapped = z[[0, 1, 3, 2]]  # positives at 0; one of the two negatives at 1
    for rows, positive in ((z, math.e**2), (swapped, 1)):
        value, nearest = nt_xent(rows, 0.5)
        assert number(value) == pytest.approx(-math.log(positive / (math.e**2 + 2)), rel=1e-6)
        assert nearest.tolist() == [rows is z] * 4


def test_nt_xent_equals_its_equation_and_identities(rng):
    z = torch.randn(10, 4, generator=rng)
    for t in (0.1, 0.5, 2.0):
        similar = (F.cosine_similarity(z[:, None], z[None], dim=2).double() / t).exp().fill_diagonal_(0)
        terms = [-math.log(similar[i, (i + 5) % 10] / similar[i].sum()) for i in range(10)]
        assert number(nt_xent(z, t)[0]) == pytest.approx(sum(terms) / 10, rel=1e-5)
    z = torch.randn(12, 5, generator=rng)
    value, order = nt_xent(z, 0.3)[0], torch.randperm(6, generator=rng)
    lengths = torch.rand(12, 1, generator=rng)
    for same in (torch.cat([z[:6][order], z[6:][order]]), torch.cat([z[6:], z[:6]]), z * lengths):
        torch.testing.assert_close(nt_xent(same, 0.3)[0], value)
    assert not torch.isclose(nt_xent(torch.cat([z[:6][order], z[6:]]), 0.3)[0], value)  # who belongs together matters
    for level in (nt_xent(torch.ones(12, 5), 0.1)[0], nt_xent(z, 1e6)[0]):  # all alike; hot enough to be all alike
        assert number(level) == pytest.approx(math.log(11), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(z, 0.3)[0], value)
    assert number(nt_xent(z[:2], 0.3)[0]) == 0  # one sample has no negatives


def test_info_nce_by_hand_and_by_its_equation(rng):
    query, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0]])
    value, nearest = info_nce(query, query, far, 0.2)
    assert number(value) == pytest.approx(math.log(1 + 3 * math.exp(-1 / 0.2)), rel=1e-4)
    assert nearest.all()
    assert number(info_nce(query, query, query.expand(3, 2), 0.2)[0]) == pytest.approx(math.log(4))  # all rows alike
    q, k, n = F.normalize(torch.randn(14, 3, generator=rng), dim=1).split([4, 4, 6])
    similar = [[math.exp(q[i] @ row / 0.3) for row in (k[i], *n)] for i in range(4)]
    expected = [-math.log(each[0] / sum(each)) for each in similar]
    value, nearest = info_nce(q, k, n, 0.3)
    assert number(value) == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert nearest.tolist() == [each[0] == max(each) for each in similar]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, k, n.flip(0), 0.3)[1], nearest)
        torch.testing.assert_close(info_nce(q, k, n.flip(0), 0.3)[0], value)
