"""Codebook: nearest codes, averages as the paper's, dead codes, a start by k-means, and ids that mean something."""

import pytest
import torch
from torch import Tensor

from ssl_runner.layers import codebook as module
from ssl_runner.layers.codebook import Codebook, Tokeniser
from ssl_runner.layers.counter_rng import CounterRng


def draws(seed: int = 0) -> CounterRng:
    return CounterRng(seed, torch.device("cpu"))


def codebook(count: int = 6, dim: int = 4, momentum: float = 0.9, restart: float = 0.0) -> Codebook:
    torch.manual_seed(0)
    return Codebook(count, dim, momentum, restart)


def clusters(n: int, rng: torch.Generator, count: int = 8) -> Tensor:
    """Tokens around `count` corners, far from where codes are at first."""
    return 5 + 3 * torch.eye(count)[torch.arange(n) % count] + 0.1 * torch.randn(n, count, generator=rng)


def test_ids_are_of_the_nearest_codes(rng):
    book, z = codebook(), torch.randn(3, 7, 4, generator=rng)
    assert torch.equal(book.assign(z), torch.cdist(z, book.codes).argmin(2))
    assert torch.equal(book.assign(book.codes), torch.arange(6))


@pytest.mark.parametrize("at_once", [module.AT_ONCE, 7])
def test_codes_are_quotients_of_two_moving_averages(at_once, rng, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    book = codebook().double()
    count, total = book.counts.clone(), book.codes * book.counts[:, None]
    for _ in range(5):
        z = torch.randn(20, 4, generator=rng, dtype=torch.float64)
        ids = book.assign(z)
        book.update(z, ids, draws())
        for k in range(6):  # equations of appendix A.1, a code at a time
            mine = z[ids == k]
            count[k] = 0.9 * count[k] + 0.1 * len(mine)
            total[k] = 0.9 * total[k] + 0.1 * mine.sum(0)
        torch.testing.assert_close(book.counts, count)
        torch.testing.assert_close(book.codes, total / count[:, None])


def test_dead_codes_become_tokens_of_the_step_and_the_others_stay(rng):
    book, plain = codebook(restart=0.5), codebook()
    z = torch.randn(50, 4, generator=rng)
    for each in (book, plain):
        each.counts.copy_(torch.tensor([4.0, 4.0, 4.0, 4.0, 0.1, 4.0]))
        each.update(z, torch.arange(50) % 4, draws())
    dead = torch.tensor([False, False, False, False, True, False])
    assert torch.equal(book.codes[~dead], plain.codes[~dead])
    assert (book.codes[4] == z).all(1).any()
    assert not (plain.codes[4] == z).all(1).any()
    assert book.counts[4] == plain.counts.mean()
    other = codebook(restart=0.5)
    other.counts.copy_(torch.tensor([4.0, 4.0, 4.0, 4.0, 0.1, 4.0]))
    other.update(z, torch.arange(50) % 4, draws(1))
    assert not torch.equal(other.codes[4], book.codes[4])


@pytest.mark.parametrize(
    ("restart", "start", "used"), [(0.0, False, (1, 3)), (0.2, False, (5, 8)), (0.0, True, (5, 8))]
)
def test_codes_that_are_far_from_all_tokens_come_into_use_by_a_restart_or_a_start(restart, start, used, rng):
    book = codebook(8, 8, restart=restart)
    if start:
        book.start(clusters(200, rng), draws())
    for step in range(60):
        z = clusters(64, rng)
        book.update(z, book.assign(z), draws(step))
    assert used[0] <= book.perplexity() <= used[1] + 1e-4


def test_perplexity_is_the_number_of_codes_in_even_use():
    book = codebook()
    assert book.perplexity() == pytest.approx(6)
    book.counts.copy_(torch.tensor([3.0, 3.0, 0.0, 0.0, 0.0, 0.0]))
    assert book.perplexity() == pytest.approx(2)


def test_a_start_is_k_means_of_the_tokens_and_leaves_codes_that_are_too_many(rng):
    book, z = codebook(), torch.randn(60, 4, generator=rng)
    first = z[draws().rand(60).argsort()[:6]]
    book.start(z, draws())
    distance = torch.cdist(z, book.codes).amin(1).square().mean()
    assert distance < 0.8 * torch.cdist(z, first).amin(1).square().mean()
    for _ in range(30):
        ids = book.assign(z)
        book.codes.copy_(torch.stack([z[ids == k].mean(0) for k in range(6)]))
    assert distance < 1.1 * torch.cdist(z, book.codes).amin(1).square().mean()
    many = codebook(10)
    before = many.codes.clone()
    many.start(z[:7], draws())
    assert torch.equal(many.codes[7:], before[7:])
    assert len(many.assign(z[:7]).unique()) == 7


def by_hash(self: Codebook, z: Tensor) -> Tensor:
    return (z * 1e4).long().sum(-1) % len(self.codes)


@pytest.mark.parametrize("mistake", [False, True])
def test_tokens_that_are_alike_have_one_id(mistake, rng, monkeypatch):
    if mistake:
        monkeypatch.setattr(Codebook, "assign", by_hash)
    torch.manual_seed(0)
    tokeniser = Tokeniser(8, 8, 8, 0.9, 0.1)
    tokens = clusters(160, rng)
    z, _ = tokeniser(tokens[None])
    tokeniser.codebook.start(z[0], draws(3))
    ids = tokeniser(tokens[None])[1][0]
    agree = ids.view(20, 8).mode(0).values.eq(ids.view(20, 8)).float().mean()
    assert (agree > 0.85) != mistake
    assert z.dtype == torch.float32
    assert z.requires_grad
