"""Counter-based random numbers: the published hash, a sample's own numbers in any company, and their distributions."""

import math

import pytest
import torch
from scipy.stats import chisquare, kstest, norm

from ssl_runner.layers.counter_rng import GAMMA, CounterRng, mix, signed

CPU = torch.device("cpu")
# The first outputs of SplitMix64 from seed 1234567, as its authors' own code prints them.
PUBLISHED = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
DRAWS = {
    "rand": lambda rng, n: rng.rand(n, 3),
    "randn": lambda rng, n: rng.randn(n, 2, 3),
    "odd randn": lambda rng, n: rng.randn(n, 5),
    "randint": lambda rng, n: rng.randint(2**31, n),
}


def test_the_hash_is_splitmix64():
    assert [mix(1234567 + i * GAMMA) for i in range(1, 6)] == PUBLISHED
    rng = CounterRng(42, CPU)
    z, key = rng._hash(7, 3), mix(42 + GAMMA)
    assert z.tolist() == [[signed(mix(key + (3 * row + column) * GAMMA)) for column in range(3)] for row in range(7)]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_sample_draws_its_own_numbers_in_any_company(draw):
    whole = CounterRng(5, CPU, torch.arange(12))
    first, second = draw(whole, 12), draw(whole, 12)
    assert not torch.equal(first, second)
    assert len(first.view(12, -1).unique(dim=0)) == 12
    for places in (torch.arange(4, 8), torch.tensor([11, 0, 3]), torch.tensor([6])):
        some = CounterRng(5, CPU, places)
        assert torch.equal(draw(some, len(places)), first[places])
        assert torch.equal(draw(some, len(places)), second[places])
    assert torch.equal(draw(CounterRng(5, CPU), 12), first), "without places, rows are numbered from 0"
    assert not torch.equal(draw(CounterRng(6, CPU), 12), first)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_several_views_of_a_batch_draw_different_numbers_and_each_sample_its_own(draw):
    three = draw(CounterRng(5, CPU, torch.arange(12)), 36).unflatten(0, (3, 12))
    assert len(three.reshape(36, -1).unique(dim=0)) >= 35
    places = torch.tensor([9, 2])
    assert torch.equal(draw(CounterRng(5, CPU, places), 6).unflatten(0, (3, 2)), three[:, places])
    with pytest.raises(ValueError, match="7 rows drawn for a batch of 2"):
        draw(CounterRng(5, CPU, places), 7)


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1])
def test_numbers_are_distributed_as_they_should_be(key):
    rng, n = CounterRng(key, CPU), 20_000
    u, z, k = rng.rand(n, 2), rng.randn(n, 2), rng.randint(10, n)
    assert u.dtype == z.dtype == torch.float32
    assert 0 <= u.min() <= u.max() < 1
    for column in range(2):
        assert kstest(u[:, column], "uniform").pvalue > 1e-4
        assert kstest(z[:, column], norm.cdf).pvalue > 1e-4
    assert z.isfinite().all()
    assert chisquare(k.bincount(minlength=10)).pvalue > 1e-4
    assert rng.randint(2**31, n).float().mean() / 2**30 == pytest.approx(1, abs=0.03)


def test_neighbours_have_nothing_to_do_with_each_other():
    """Of one draw, of two draws, of keys that differ by one: rows, columns, and the two halves of normal pairs."""
    n = 40_000
    rng, other = CounterRng(3, CPU), CounterRng(4, CPU)
    a, b, c, z = rng.rand(n, 4), rng.rand(n, 4), other.rand(n, 4), rng.randn(n, 4)
    pairs = [
        (a[:, 0], a[:, 1]),
        (a[:-1, 0], a[1:, 0]),
        (a, b),
        (a, c),
        (z[:, 0], z[:, 2]),
        (z[:, 0] ** 2, z[:, 2] ** 2),
    ]
    for x, y in pairs:
        correlation = torch.corrcoef(torch.stack([x.flatten(), y.flatten()]).double())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(n)
    cells = (a[:, 0] * 16).long() * 16 + (a[:, 1] * 16).long()
    assert chisquare(cells.bincount(minlength=256)).pvalue > 1e-4
