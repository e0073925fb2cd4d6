"""InfoNCE against its equations, written as loops, and at the points that can be solved by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import number

from ssl_runner.loss.info_nce import info_nce, nt_xent


def nt_xent_by_loops(z: Tensor, temperature: float) -> float:
    """Equation 1 of SimCLR, literally."""
    n = len(z) // 2

    def sim(i: int, j: int) -> float:
        return number(z[i] @ z[j] / (z[i].norm() * z[j].norm()))

    def anchor(i: int, j: int) -> float:
        others = sum(math.exp(sim(i, k) / temperature) for k in range(2 * n) if k != i)
        return -math.log(math.exp(sim(i, j) / temperature) / others)

    return sum(anchor(k, k + n) + anchor(k + n, k) for k in range(n)) / (2 * n)


def test_nt_xent_solved_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])  # positives at cosine 1, negatives at 0
    value, nearest = nt_xent(z, 0.5)
    assert number(value) == pytest.approx(-math.log(math.e**2 / (math.e**2 + 2)), rel=1e-6)
    assert nearest.all()
    value, nearest = nt_xent(z[[0, 1, 3, 2]], 0.5)  # positives at 0; one of the two negatives at 1
    assert number(value) == pytest.approx(-math.log(1 / (math.e**2 + 2)), rel=1e-6)
    assert not nearest.any()


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_equals_its_equation(rng, temperature):
    z = torch.randn(10, 4, generator=rng)
    assert number(nt_xent(z, temperature)[0]) == pytest.approx(nt_xent_by_loops(z, temperature), rel=1e-5)


def test_nt_xent_identities(rng):
    z = torch.randn(12, 5, generator=rng)
    value = nt_xent(z, 0.3)[0]
    order = torch.randperm(6, generator=rng)
    for same in (
        torch.cat([z[:6][order], z[6:][order]]),
        torch.cat([z[6:], z[:6]]),
        z * torch.rand(12, 1, generator=rng),
    ):
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
    q, k, n = (F.normalize(torch.randn(*shape, generator=rng), dim=1) for shape in ((4, 3), (4, 3), (6, 3)))
    expected = [
        -math.log(math.exp(q[i] @ k[i] / 0.3) / sum(math.exp(q[i] @ row / 0.3) for row in [k[i], *n])) for i in range(4)
    ]
    value, nearest = info_nce(q, k, n, 0.3)
    assert number(value) == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert nearest.tolist() == [bool(q[i] @ k[i] > (n @ q[i]).max()) for i in range(4)]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, k, n.flip(0), 0.3)[1], nearest)
        torch.testing.assert_close(info_nce(q, k, n.flip(0), 0.3)[0], value)
