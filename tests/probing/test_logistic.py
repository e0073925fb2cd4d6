"""Logistic regression: scikit-learn's minimum, the path to it, and the choice of its L2 weight."""

import pytest
import torch
from evaluator_toys import blobs, digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssl_runner.probing import linear, logistic
from ssl_runner.probing.logistic import Rotated, fit_path


def path(x, y, classes, l2, **settings):
    return list(fit_path(Rotated.of(x), y, classes, l2, **settings))


@pytest.fixture
def bank():
    """Three overlapping classes, centred."""
    split = blobs(300)
    return split.x.double() - split.x.double().mean(0), split.y


@pytest.mark.parametrize(("l2", "close"), [(1e-1, 1e-5), (1e-3, 1e-4), (1e-5, 2e-2)])
def test_the_path_ends_at_scikit_learns_minimum(l2, close):
    """Separable classes under a weak penalty leave a flat valley, whence the wider margin."""
    bank, query = digits()
    scaler, y = StandardScaler().fit(bank.x.double()), bank.y
    x, z = (torch.from_numpy(scaler.transform(split.x.double())) for split in (bank, query))
    peer = LogisticRegression(C=1 / (len(x) * l2), solver="newton-cholesky", tol=1e-10)  # exact where lbfgs stops early
    peer.fit(x.numpy(), y.numpy())
    *_, ours = path(x, y, 10, (1e-1, l2) if l2 < 1e-1 else (l2,), tolerance=1e-8, iterations=2000)
    assert ours.l2 == l2
    torch.testing.assert_close(ours.weight.T, torch.from_numpy(peer.coef_), atol=close, rtol=0)
    bias = torch.from_numpy(peer.intercept_)  # free up to a constant
    torch.testing.assert_close(ours.bias - ours.bias.mean(), bias - bias.mean(), atol=3 * close, rtol=0)
    shares = torch.from_numpy(peer.predict_proba(z.numpy()))
    torch.testing.assert_close(ours.scores(z).softmax(1), shares, atol=close, rtol=0)


def test_the_minimum_does_not_depend_on_the_way_to_it(bank, rng):
    """A warm start saves time and changes nothing; neither does the order of the grid or of the samples, nor others."""
    (x, y), order, some = bank, torch.randperm(300, generator=rng), torch.arange(0, 300, 2)
    warm = path(x, y, 3, (1e-4, 1e-1, 1e-2), tolerance=1e-9)
    assert [each.l2 for each in warm] == [1e-1, 1e-2, 1e-4]
    alone, cold, mixed = (path(x[i], y[i], 3, (1e-4,), tolerance=1e-9)[0] for i in (some, slice(300), order))
    (among,) = path(x, y, 3, (1e-4,), tolerance=1e-9, rows=some)
    for one, other in ((warm[-1], cold), (mixed, cold), (among, alone)):
        torch.testing.assert_close(one.weight, other.weight, atol=1e-5, rtol=1e-5)


def test_the_path_goes_on_from_where_it_ended(bank, monkeypatch):
    """The same weight again takes one evaluation, where the first time took many."""
    evaluations, original = [], torch.Tensor.log_softmax
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda self, dim: evaluations.append(0) or original(self, dim))
    fits = fit_path(Rotated.of(bank[0] * torch.tensor([1, 2, 3, 1, 2, 3.0])), bank[1], 3, (1e-2, 1e-2))
    next(fits)
    first = len(evaluations)
    next(fits)
    assert first > 5
    assert len(evaluations) == first + 1


@pytest.mark.parametrize("classes", [2, 7])
def test_cross_entropy_is_torchs_with_its_gradient(classes, monkeypatch, rng):
    """In blocks of whatever size, rows in float64 or in float32, which only the products see."""
    x, y = torch.randn(103, 5, generator=rng).double(), torch.arange(103) % classes
    weight, bias = (torch.randn(n, classes, generator=rng).double().requires_grad_() for n in (5, 1))
    loss = nn.functional.cross_entropy(x @ weight + bias, y)
    loss.backward()
    expected = torch.cat([weight.grad, bias.grad])
    for bytes_, dtype, close in ((2**20, torch.float64, 1e-12), (400, torch.float64, 1e-12), (1, torch.float32, 1e-7)):
        monkeypatch.setattr(logistic, "BLOCK", bytes_)
        with torch.no_grad():
            value, slope = logistic.cross_entropy(x.to(dtype), y[:, None], weight, bias)
        assert slope.dtype == value.dtype == torch.float64
        torch.testing.assert_close((value, slope), (loss.detach(), expected), atol=close, rtol=close)


def test_float32_first_ends_where_float64_alone_ends():
    bank, _ = digits()
    x = bank.x.double()
    rotated = Rotated.of((x - x.mean(0)) / x.std(0).clamp(min=1e-3))
    assert rotated.coarse.dtype == torch.float32
    wide = Rotated(rotated.x, rotated.x, rotated.axes, rotated.variance)
    for tolerance, close in ((1e-4, 5e-3), (1e-7, 3e-5)):
        mixed, alone = (list(fit_path(each, bank.y, 10, (1e-1, 1e-3), tolerance)) for each in (rotated, wide))
        for a, b in zip(mixed, alone, strict=True):
            torch.testing.assert_close(a.weight, b.weight, atol=close, rtol=0)


def chosen(x, y, classes, l2):
    return linear.choose_l2(Rotated.of(x), y, classes, l2=l2, held_out=0.2).l2


def test_a_strong_penalty_is_chosen_for_equals_and_noise_and_a_weak_one_for_signal(rng):
    equal = blobs(150, spread=0.05)
    for n in (150, 3):  # of three rows nothing can be held out
        assert chosen(equal.x[:n].double(), equal.y[:n], 3, (1e-5, 1e-2, 1e-3)) == 1e-2
    few, weak, strong = blobs(60, spread=1.5), 1e-6, 1.0
    noisy = torch.cat([few.x, torch.randn(60, 300, generator=rng)], 1).double()
    assert chosen(noisy, few.y, 3, (weak, strong)) == strong
    # A small feature decides: only with large weights can it be heard over a large one.
    x = torch.randn(2000, 2, generator=rng, dtype=torch.float64)
    y = (x[:, 0] + 0.3 * x[:, 1] > 0.2).long()
    x[:, 1] *= 0.01
    assert chosen(x, y, 2, (weak, strong)) == weak


def test_weights_after_a_hopeless_one_are_not_tried(monkeypatch, rng):
    """Noise in as many dimensions as there are rows: the weaker, the worse. Doubtful losses end nothing."""
    tried, original = [], linear.fit_path

    def watched(*args, **settings):
        for fitted in original(*args, **settings):
            tried.append(fitted.l2)
            yield fitted

    monkeypatch.setattr(linear, "fit_path", watched)
    few, l2 = blobs(2000, spread=1.5), (1.0, 1e-3, 1e-5, 1e-6)
    noisy = torch.cat([few.x, torch.randn(2000, 1000, generator=rng)], 1).double()
    assert chosen(noisy, few.y, 3, l2) == 1.0
    assert tried == [1.0, 1e-3, 1e-5]  # and not 1e-6
    tried.clear()
    assert chosen(noisy[:60], few.y[:60], 3, l2) == 1.0
    assert tried == list(l2)
