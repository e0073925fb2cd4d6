"""Linear models on features: logistic and ridge regression, the choice of their L2 weight, scores, intervals."""

import math
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from evaluator_toys import blobs, digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, r2_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from ssl_runner.probing import linear, logistic
from ssl_runner.probing.class_scores import top_accuracies
from ssl_runner.probing.label_efficiency import half_width, overlap, rank_within_class, stratified_sample
from ssl_runner.probing.linear import Standardiser, fit_ridge, mean_average_precision, r_squared, ridge_path
from ssl_runner.probing.logistic import Rotated, fit_path


def path(x, y, classes, l2, **settings):
    return list(fit_path(Rotated.of(x.clone()), y, classes, l2, **settings))


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


def test_the_minimum_does_not_depend_on_the_way_to_it(rng):
    """A warm start changes nothing; neither does the order of the grid or of the samples, nor others."""
    split, order, some = blobs(300), torch.randperm(300, generator=rng), torch.arange(0, 300, 2)
    x, y = split.x.double() - split.x.double().mean(0), split.y
    warm = path(x, y, 3, (1e-4, 1e-1, 1e-2), tolerance=1e-9)
    assert [each.l2 for each in warm] == [1e-1, 1e-2, 1e-4]
    alone, cold, mixed = (path(x[i], y[i], 3, (1e-4,), tolerance=1e-9)[0] for i in (some, slice(300), order))
    (among,) = path(x, y, 3, (1e-4,), tolerance=1e-9, rows=some)
    for one, other in ((warm[-1], cold), (mixed, cold), (among, alone)):
        torch.testing.assert_close(one.weight, other.weight, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_prepared_in_one_copy_and_the_features_stay(rng, dtype):
    """One in float64 and, on a CPU, one in float32: with those of each intermediate result it was twice as much."""
    x = torch.randn(2**17, 128, generator=rng).to(dtype)
    before, size = x.clone(), x.numel() * 4 / 2**10  # kB in float32
    linear.fit_classifier(x[:50], torch.arange(50) % 3, 3, l2=(1e-1,), held_out=0.2)  # what is imported then
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    Rotated.of(Standardiser.fit(x)(x))
    status = Path("/proc/self/status").read_text()
    held, peak = (int(status.split(f"{key}:")[1].split()[0]) for key in ("VmRSS", "VmHWM"))
    assert peak - held < 3.5 * size
    assert torch.equal(x, before)


def test_a_warm_start_saves_time():
    """The same weight again takes one evaluation more, where the first time took many."""
    split, evaluations = blobs(300), []
    with mock.patch.object(logistic, "cross_entropy", wraps=logistic.cross_entropy) as evaluated:
        for _ in fit_path(Rotated.of(split.x.double() * torch.arange(1, 7)), split.y, 3, (1e-2, 1e-2)):
            evaluations.append(evaluated.call_count)
    assert 5 < evaluations[0] == evaluations[1] - 1


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
    rotated = Rotated.of(torch.from_numpy(StandardScaler().fit_transform(bank.x.double())))
    assert rotated.coarse.dtype == torch.float32
    for tolerance, close in ((1e-4, 5e-3), (1e-7, 3e-5)):
        rows = (rotated, replace(rotated, coarse=rotated.x))
        mixed, alone = ([fit.weight for fit in fit_path(x, bank.y, 10, (1e-1, 1e-3), tolerance)] for x in rows)
        torch.testing.assert_close(mixed, alone, atol=close, rtol=0)


def chosen(x, y, classes, l2):
    return linear.choose_l2(Rotated.of(x.clone()), y, classes, l2=l2, held_out=0.2).l2


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
    tried = []
    monkeypatch.setattr(
        linear, "fit_path", lambda *args, **more: (tried.append(fit.l2) or fit for fit in fit_path(*args, **more))
    )
    few, l2 = blobs(2000, spread=1.5), (1.0, 1e-3, 1e-5, 1e-6)
    noisy = torch.cat([few.x, torch.randn(2000, 1000, generator=rng)], 1).double()
    assert chosen(noisy, few.y, 3, l2) == 1.0
    assert tried == [1.0, 1e-3, 1e-5]  # and not 1e-6
    tried.clear()
    assert chosen(noisy[:60], few.y[:60], 3, l2) == 1.0
    assert tried == list(l2)


def test_scores_by_hand_and_by_scikit_learn(rng):
    """Positives at ranks 1 and 3: (1/1 + 2/3) / 2. Equal scores pass a threshold together: one precision for both."""
    approx, guesses = pytest.approx, torch.tensor([[0, 1], [1, -1], [2, 0]])
    assert top_accuracies(guesses, torch.tensor([0, 1, 0]), 5) == {"top1": approx(2 / 3)}
    assert top_accuracies(guesses, torch.tensor([0, -1, 0]), 6) == {"top1": approx(1 / 3), "top5": 1}
    ranked, truth = torch.tensor([[0.9, 0.8, 0.7, 0.1]]).T, torch.tensor([[True, False, True, False]]).T
    assert mean_average_precision(ranked, truth) == approx((1 + 2 / 3) / 2)
    assert mean_average_precision(torch.ones(4, 1), truth) == approx(0.5)
    assert math.isnan(mean_average_precision(ranked, torch.zeros(4, 1, dtype=torch.bool)))
    scores = torch.randn(90, 4, generator=rng).round(decimals=1)  # with ties
    truth = torch.rand(90, 4, generator=rng) < torch.tensor([0.5, 0.1, 0.9, 0.0])
    expected = average_precision_score(truth[:, :3].numpy(), scores[:, :3].numpy())
    assert mean_average_precision(scores, truth) == approx(expected)
    truth = torch.randn(50, 3, generator=rng).double() * torch.tensor([1, 5, 0.1])
    guess = truth + torch.randn(50, 3, generator=rng)
    assert r_squared(guess, truth) == approx(r2_score(truth.numpy(), guess.numpy(), multioutput="variance_weighted"))
    assert (r_squared(truth, truth), r_squared(truth.mean(0).expand(50, 3), truth)) == (1, approx(0))
    assert math.isnan(r_squared(truth, torch.ones(50, 3).double()))


def test_ridge_by_hand():
    """Rows -1 and 1 with values 1 and 5: the slope is 2 / (1 + l2) about the mean 3."""
    x, y = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[1.0], [5.0]]).double()
    scores = [(fitted.l2, float(fitted.scores(x)[1, 0])) for fitted in ridge_path(x, y, (0.25, 1.0))]
    assert scores == [(l2, pytest.approx(3 + 2 / (1 + l2))) for l2 in (1.0, 0.25)]
    one = fit_ridge(x[:1], y[:1], l2=(1e-3, 1.0), held_out=0.2)  # nothing can be held out
    assert (one.l2, float(one.scores(x[:1]))) == (1.0, 1.0)


@pytest.mark.slow
def test_intervals_cover_other_labels_also_if_draws_overlap(rng):
    """A score is the mean of its rows, with mean 0 where they come from: 19 of 20 intervals hold it, by any bank."""
    assert half_width([0.4, 0.5, 0.6], 0.0) == pytest.approx(4.3026527 * 0.1 / 3**0.5)  # draws that share nothing
    assert half_width([0.5, 0.5, 0.5], 0.1) is half_width([0.5], 0.1) is None  # no width without spread
    for held, drawn in ((1000, 5), (120, 40), (120, 100)):
        inside = plain = 0
        for _ in range(1000):
            bank = torch.randn(held, generator=rng)
            scores = [float(bank[torch.randperm(held, generator=rng)[:drawn]].mean()) for _ in range(5)]
            mean = abs(sum(scores) / 5)
            inside += mean < half_width(scores, drawn / held)
            plain += mean < half_width(scores, 0.0)
        assert 0.93 < inside / 1000 < 0.97
    assert plain / 1000 < 0.45  # what an interval that takes draws for independent says of 100 rows of 120


def test_rows_in_common_by_hand():
    """Of equal classes the share of the bank; a class nearly used up counts whatever the size of the others."""
    for drawn, held, share in (
        ([100, 100], [120, 120], 100 / 120),
        ([5, 5, 0], [50, 50, 0], 0.1),
        ([100, 100], [10_000, 120], 50 * (1e-4 + 1 / 120)),
        ([5, 3], [10, 3], (1 / 10 + 1 / 3) / (1 / 5 + 1 / 3)),
    ):
        assert overlap(torch.tensor(drawn), torch.tensor(held)) == pytest.approx(share)


def test_draws_take_so_many_of_each_class_or_its_share(rng):
    y = torch.tensor([0] * 10 + [2] * 3 + [1])[torch.randperm(14, generator=rng)]
    ranks = rank_within_class(y, rng)
    for label, count in enumerate((10, 1, 3)):
        assert ranks[y == label].sort().values.tolist() == list(range(count))
    assert y[ranks < 2].bincount().tolist() == [2, 1, 2]
    firsts = [int(rank_within_class(torch.zeros(4).long(), rng).argmin()) for _ in range(400)]
    assert all(60 < firsts.count(row) < 140 for row in range(4))
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rows = stratified_sample(y, 20, rng)
    assert y[rows].bincount().tolist() == [12, 6, 2]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert stratified_sample(y, 1000, rng).tolist() == list(range(100))
