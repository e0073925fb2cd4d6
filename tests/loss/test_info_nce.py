"""Contrastive losses against formulas in float64 and the points that can be solved by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import number

from ssl_runner.loss.info_nce import decoupled, extreme_temperature, in_batch, nt_xent
from ssl_runner.pretext.simsiam import negative_cosine


def decoupled_by_loops(z, t, s=None, positive_below=False):
    """The paper's formula; `positive_below` plants the positive in the denominator, which is InfoNCE."""
    z, n = F.normalize(z.double(), dim=1), len(z) // 2
    own = [float(z[i] @ z[(i + n) % (2 * n)]) for i in range(2 * n)]
    mean = sum(math.exp(c / s) for c in own) / (2 * n) if s else 1
    losses = []
    for i, c in enumerate(own):
        others = [j for j in range(2 * n) if j != i and (positive_below or j != (i + n) % (2 * n))]
        weight = 2 - math.exp(c / s) / mean if s else 1
        losses.append(-weight * c / t + math.log(sum(math.exp(float(z[i] @ z[j]) / t) for j in others)))
    return sum(losses) / (2 * n)


@pytest.mark.parametrize("s", [None, 0.5, 0.1])
def test_decoupled_is_its_formula_without_the_positive_below(rng, s):
    z, order = torch.randn(10, 4, generator=rng), torch.randperm(5, generator=rng)
    value = decoupled(z, 0.3, s)[0]
    assert number(value) == pytest.approx(decoupled_by_loops(z, 0.3, s), rel=1e-5)
    assert number(value) != pytest.approx(decoupled_by_loops(z, 0.3, s, positive_below=True), rel=1e-2)
    for same in (torch.cat([z[:5][order], z[5:][order]]), torch.cat([z[5:], z[:5]]), z * torch.rand(10, 1) * 3):
        torch.testing.assert_close(decoupled(same, 0.3, s)[0], value)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(decoupled(z, 0.3, s)[0], value)
    assert torch.equal(decoupled(z, 0.3, s)[1], nt_xent(z, 0.3)[1])


def test_decoupled_at_collapse_is_the_log_of_the_negatives_and_falls_without_bound():
    for weight in (None, 0.5):
        assert number(decoupled(torch.ones(12, 5), 0.1, weight)[0]) == pytest.approx(math.log(10) + 10 - 10, abs=1e-5)
    z = torch.eye(2).repeat(2, 1)  # positives at cosine 1, negatives at 0: -1/T + log 2
    for t in (1.0, 0.1, 0.01):
        assert number(decoupled(z, t)[0]) == pytest.approx(math.log(2) - 1 / t, rel=1e-5)


def test_weights_of_pairs_have_a_mean_of_one_and_no_gradient(rng):
    z = torch.randn(10, 4, generator=rng, dtype=torch.float64).requires_grad_()
    unit = F.normalize(z, dim=1)
    own = (unit[:5] * unit[5:]).sum(1).repeat(2)
    weight = (2 - (own / 0.5).exp() / (own / 0.5).exp().mean()).detach()
    assert number(weight.mean()) == pytest.approx(1)
    assert weight[own.argmin()] == weight.max() > weight.min()
    expected = decoupled(z, 0.3)[0] + ((1 - weight) * own).mean() / 0.3
    (ours,) = torch.autograd.grad(decoupled(z, 0.3, 0.5)[0], z, retain_graph=True)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, z)[0], rtol=1e-4, atol=1e-6)


def test_in_batch_is_the_cross_entropy_of_its_own_key(rng):
    q, k = torch.randn(6, 4, generator=rng), torch.randn(6, 4, generator=rng)
    cosine = F.cosine_similarity(q[:, None], k[None], dim=2).double() / 0.3
    expected = -sum(math.log(cosine[i].exp()[i] / cosine[i].exp().sum()) for i in range(6)) / 6
    value, nearest = in_batch(q, k, 0.3)
    assert number(value) == pytest.approx(expected, rel=1e-5)
    assert nearest.tolist() == [int(row.argmax()) == i for i, row in enumerate(cosine)]
    torch.testing.assert_close(in_batch(3 * q.flip(0), k.flip(0), 0.3)[0], value)
    assert not torch.isclose(in_batch(q.flip(0), k, 0.3)[0], value)
    assert number(in_batch(q, torch.ones(6, 4), 0.3)[0]) == pytest.approx(math.log(6), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(in_batch(q, k, 0.3)[0], value)


def test_negative_cosine_is_to_the_mean_of_the_other_views(rng):
    p, z = torch.randn(4, 3, 5, generator=rng), torch.randn(4, 3, 5, generator=rng)
    terms = []
    for i in range(4):
        target = torch.stack([z[j] for j in range(4) if j != i]).double().mean(0)
        terms.append(-F.cosine_similarity(p[i].double(), target, dim=1).mean())
    assert number(negative_cosine(p, z)) == pytest.approx(float(sum(terms) / 4), rel=1e-5)
    pair = -(F.cosine_similarity(p[0], z[1]).mean() + F.cosine_similarity(p[1], z[0]).mean()) / 2
    torch.testing.assert_close(negative_cosine(p[:2], z[:2]), pair)
    one = p[:1].expand(4, -1, -1)
    assert [number(negative_cosine(sign * one, one)) for sign in (1, -1)] == pytest.approx([-1, 1])


def test_temperatures_far_from_usual_are_suspects():
    assert not extreme_temperature(0.1, 0.2)
    for temperature in (2.0, 0.01):
        (suspect,) = extreme_temperature(temperature, 0.2)
        assert suspect.remedy == "pretext.temperature=0.2"
