"""Evaluators against scikit-learn, by hand, and where they could go wrong: dead features, chance, leaks, order."""

from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import ssl_runner.probing.knn_vote as neighbours_file
import ssl_runner.probing.linear as linear_file
import ssl_runner.probing.logistic as logistic_file
from ssl_runner.contract import Encoder, Features, Split
from ssl_runner.duration import Duration
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe
from ssl_runner.probing.linear import choose
from ssl_runner.probing.logistic import Turned, path

CONF = Path(__file__).parents[1] / "conf" / "evaluator"
EVERY = Duration.parse("10%")


class Flat(Encoder):
    """Samples as they are, so that features can be written down."""

    dim = 2

    def __init__(self):
        super().__init__((0.0,), (1.0,))
        self.layer = nn.Linear(2, 2)

    def forward(self, x, keep=None):
        pooled = x.float()
        return Features(pooled, pooled[:, None], (1,))


def rows(x):
    return x.float()


def blobs(n, classes=3, d=6, spread=1.0, seed=0):
    """Gaussian classes that overlap at spread 1; the classes' centres are always the same."""
    centres = torch.randn(24, d, generator=torch.Generator().manual_seed(99))[:classes]
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return Split(centres[y] + spread * torch.randn(n, d, generator=rng), y)


def digits():
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(x, dtype=torch.float32)[order], torch.tensor(y)[order]
    return Split(x[:600], y[:600]), Split(x[600:1000], y[600:1000])


def knn(bank, query, classes=3, k=20, temperature=0.07):
    return KNN(every=EVERY, k=k, temperature=temperature, bank=bank, query=query, classes=classes)


def probe(bank, query, classes=3, l2=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), held_out=0.2):
    return Probe(every=EVERY, l2=l2, held_out=held_out, bank=bank, query=query, classes=classes)


BOTH = pytest.mark.parametrize("make", [knn, probe])


def test_knn_votes_by_hand():
    """A near neighbour of class 0 outweighs two farther ones of class 1, until a high temperature levels them."""
    angles = torch.tensor([0.1, 0.9, 0.9])
    bank = Split(
        torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[5.0], [1.0], [0.1]]), torch.tensor([0, 1, 1])
    )
    query = Split(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    # exp(0.995 / 0.1) = 20,950 against 2 exp(0.622 / 0.1) = 1,003; at temperature 10 it is 1.10 against 2.13
    assert knn(bank, query, 2, k=3, temperature=0.1)(Flat(), rows) == {"top1": 1.0}
    assert knn(bank, query, 2, k=3, temperature=10.0)(Flat(), rows) == {"top1": 0.0}
    assert knn(bank, query, 2, k=1, temperature=10.0)(Flat(), rows) == {"top1": 1.0}


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (50, 0.5)])
def test_knn_predicts_what_scikit_learn_predicts(k, temperature):
    """The query's labels are scikit-learn's own guesses: one differing guess and top1 falls below 1."""
    bank, query = blobs(400, classes=7), blobs(300, classes=7, seed=1)

    def vote(distance):
        return np.exp((1 - distance) / temperature)

    peer = KNeighborsClassifier(k, metric="cosine", weights=vote).fit(bank.x.double().numpy(), bank.y.numpy())
    x = query.x.double().numpy()
    guesses = Split(query.x, torch.from_numpy(peer.predict(x)))
    assert knn(bank, guesses, 7, k, temperature)(Flat(), rows)["top1"] == 1.0
    got = knn(bank, query, 7, k, temperature)(Flat(), rows)
    assert got["top1"] == pytest.approx(peer.score(x, query.y.numpy()), abs=1e-9)
    share = peer.predict_proba(x)
    five = [y in np.argsort(-p)[:5] and p[y] > 0 for p, y in zip(share, query.y.tolist(), strict=True)]
    assert got["top5"] == pytest.approx(np.mean(five), abs=1e-9)


def test_knn_in_pieces_is_knn_at_once(monkeypatch):
    bank, query = blobs(200), blobs(101, seed=1)
    whole = knn(bank, query)(Flat(), rows)
    monkeypatch.setattr(neighbours_file, "CELLS", 7 * 200)
    assert knn(bank, query)(Flat(), rows) == whole
    monkeypatch.setattr(neighbours_file, "CELLS", 1)
    assert knn(bank, query)(Flat(), rows) == whole


def test_knn_never_holds_the_whole_matrix(monkeypatch):
    largest = 0
    original = torch.Tensor.topk

    def watched(self, *args, **kwargs):
        nonlocal largest
        largest = max(largest, self.numel())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    monkeypatch.setattr(neighbours_file, "CELLS", 2000)
    knn(blobs(200), blobs(100, seed=1))(Flat(), rows)
    assert largest == 2000


def test_knn_takes_a_very_small_temperature():
    bank, query = blobs(200), blobs(100, seed=1)
    assert knn(bank, query, temperature=1e-6)(Flat(), rows) == knn(bank, query, k=1)(Flat(), rows)


def test_knn_top5_counts_no_class_without_a_vote():
    """With one neighbour there is one guess, whatever the classes that fill up the five."""
    bank, query = blobs(90, classes=9), blobs(90, classes=9, seed=1)
    got = knn(bank, query, 9, k=1)(Flat(), rows)
    assert got["top5"] == got["top1"] < 1


@pytest.mark.parametrize(("l2", "close"), [(1e-1, 1e-5), (1e-3, 1e-4), (1e-5, 2e-2)])
def test_path_ends_at_scikit_learns_minimum(l2, close):
    """Separable classes under a weak penalty leave a flat valley, whence the wider margin."""
    bank, query = digits()
    x, y = bank.x.double(), bank.y
    mean, deviation = x.mean(0), x.std(0, correction=0)
    deviation[deviation == 0] = 1
    x = (x - mean) / deviation
    peer = LogisticRegression(C=1 / (len(x) * l2), solver="newton-cholesky", tol=1e-10)  # exact where lbfgs stops early
    peer.fit(x.numpy(), y.numpy())
    *_, (chosen, ours) = path(x, y, 10, (1e-1, l2) if l2 < 1e-1 else (l2,), tolerance=1e-8, iterations=2000)
    assert chosen == l2
    torch.testing.assert_close(ours.weight.T, torch.from_numpy(peer.coef_), atol=close, rtol=0)
    # Biases are free up to a constant.
    bias = torch.from_numpy(peer.intercept_)
    torch.testing.assert_close(ours.bias - ours.bias.mean(), bias - bias.mean(), atol=3 * close, rtol=0)
    z = (query.x.double() - mean) / deviation
    share = torch.from_numpy(peer.predict_proba(z.numpy()))
    torch.testing.assert_close(ours.scores(z).softmax(1), share, atol=close, rtol=0)


def test_probe_scores_what_scikit_learn_scores():
    bank, query = digits()
    mean, deviation = bank.x.double().mean(0), bank.x.double().std(0, correction=0)
    deviation[deviation == 0] = 1
    x, z = ((s.x.double() - mean) / deviation for s in (bank, query))
    for l2 in (1e-1, 1e-3, 1e-5):
        peer = LogisticRegression(C=1 / (len(x) * l2), tol=1e-6, max_iter=3000).fit(x.numpy(), bank.y.numpy())
        got = probe(bank, query, 10, l2=(l2,))(Flat(), rows)
        assert got["top1"] == pytest.approx(peer.score(z.numpy(), query.y.numpy()), abs=1 / len(query.y) + 1e-9)
        assert got["top1"] <= got["top5"] <= 1


def test_path_starts_where_nothing_is_known():
    """Under a huge penalty only the biases are left: the logarithms of the classes' shares."""
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ((_, linear),) = path(x, y, 3, (1e6,), tolerance=1e-9)
    share = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    assert linear.weight.abs().max() < 1e-5
    torch.testing.assert_close(linear.bias.softmax(0), share, atol=1e-5, rtol=0)


def test_path_does_not_depend_on_how_it_was_walked():
    """A warm start saves time and changes nothing; neither does the order of the grid or of the samples."""
    bank = blobs(300)
    x = bank.x.double()
    x, y = (x - x.mean(0)) / x.std(0), bank.y
    *_, (_, warm) = path(x, y, 3, (1e-4, 1e-1, 1e-2), tolerance=1e-9)
    ((_, cold),) = path(x, y, 3, (1e-4,), tolerance=1e-9)
    torch.testing.assert_close(warm.weight, cold.weight, atol=1e-5, rtol=1e-5)
    assert [l2 for l2, _ in path(x, y, 3, (1e-4, 1e-1, 1e-2))] == [1e-1, 1e-2, 1e-4]
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    ((_, mixed),) = path(x[order], y[order], 3, (1e-4,), tolerance=1e-9)
    torch.testing.assert_close(mixed.weight, cold.weight, atol=1e-5, rtol=1e-5)


def test_path_goes_on_from_where_it_ended(monkeypatch):
    """The same weight again is a matter of one look, which the first time took many."""
    looks = []
    original = torch.Tensor.log_softmax
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda self, dim: looks.append(0) or original(self, dim))
    bank = blobs(300)
    x = (bank.x.double() - bank.x.double().mean(0)) * torch.tensor([1, 2, 3, 1, 2, 3.0])
    walk = path(x, bank.y, 3, (1e-2, 1e-2))
    next(walk)
    first = len(looks)
    next(walk)
    assert first > 5
    assert len(looks) == first + 1


def chosen(x, y, classes, l2):
    return choose(Turned.of(x), y, classes, l2=l2, held_out=0.2)[0]


@pytest.mark.parametrize("classes", [2, 7])
def test_cross_entropy_is_torchs_with_its_gradient(classes, monkeypatch):
    """In blocks of whatever size, rows in float64 or in float32, which only the products see."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(103, 5, generator=rng).double(), torch.arange(103) % classes
    weight, bias = (torch.randn(n, classes, generator=rng).double().requires_grad_() for n in (5, 1))
    loss = nn.functional.cross_entropy(x @ weight + bias, y)
    loss.backward()
    expected = torch.cat([weight.grad, bias.grad])
    for bytes_, dtype, close in ((2**20, torch.float64, 1e-12), (400, torch.float64, 1e-12), (1, torch.float32, 1e-7)):
        monkeypatch.setattr(logistic_file, "BLOCK", bytes_)
        with torch.no_grad():
            got, slope = logistic_file.cross_entropy(x.to(dtype), y[:, None], weight, bias)
        assert slope.dtype == got.dtype == torch.float64
        torch.testing.assert_close((got, slope), (loss.detach(), expected), atol=close, rtol=close)


def test_float32_first_ends_where_float64_alone_ends():
    bank, _ = digits()
    x = bank.x.double()
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-3)
    turned = Turned.of(x)
    assert turned.coarse.dtype == torch.float32
    wide = Turned(turned.x, turned.x, turned.axes, turned.variance)
    for tolerance, close in ((1e-4, 5e-3), (1e-7, 3e-5)):
        mixed, alone = (list(path(each, bank.y, 10, (1e-1, 1e-3), tolerance)) for each in (turned, wide))
        for (_, a), (_, b) in zip(mixed, alone, strict=True):
            torch.testing.assert_close(a.weight, b.weight, atol=close, rtol=0)


def test_the_fit_of_some_rows_is_that_without_the_others():
    bank = blobs(300)
    x = bank.x.double() - bank.x.double().mean(0)
    some = torch.arange(0, 300, 2)
    ((_, among),) = path(x, bank.y, 3, (1e-3,), tolerance=1e-9, rows=some)
    ((_, alone),) = path(x[some], bank.y[some], 3, (1e-3,), tolerance=1e-9)
    torch.testing.assert_close(among.weight, alone.weight, atol=1e-6, rtol=0)


def test_votes_of_many_neighbours_of_one_class_are_summed():
    """Three of 0.9 beat two of 1: by the sum, not by the nearest and not by the last."""
    cosine = torch.tensor([1.0, 1.0, 0.9, 0.9, 0.9])
    bank = torch.stack([cosine, (1 - cosine.square()).sqrt()], 1)
    got = neighbours_file.ranked(
        bank, torch.tensor([4, 4, 2, 2, 2]), torch.tensor([[1.0, 0.0]]), k=5, temperature=10.0, classes=6
    )
    assert got.tolist() == [[2, 4, -1, -1, -1]]


def test_probe_chooses_the_strongest_of_equals():
    bank = blobs(150, spread=0.05)
    x, y, l2 = bank.x.double(), bank.y, (1e-5, 1e-2, 1e-3)
    assert chosen(x, y, 3, l2) == 1e-2
    assert chosen(x[:3], y[:3], 3, l2) == 1e-2  # nothing can be held out


def test_probe_chooses_a_strong_penalty_for_noise_and_a_weak_one_for_signal():
    rng = torch.Generator().manual_seed(0)
    few = blobs(60, spread=1.5)
    noisy = torch.cat([few.x, torch.randn(60, 300, generator=rng)], 1).double()
    weak, strong = 1e-6, 1.0
    assert chosen(noisy, few.y, 3, (weak, strong)) == strong
    # A small feature decides: only with large weights can it be heard over a large one.
    x = torch.randn(2000, 2, generator=rng, dtype=torch.float64)
    y = (x[:, 0] + 30 * (x[:, 1] * 0.01) > 0.2).long()
    x[:, 1] *= 0.01
    assert chosen(x, y, 2, (weak, strong)) == weak


def test_weights_after_a_hopeless_one_are_not_tried(monkeypatch):
    """Noise in as many dimensions as there are rows: the weaker, the worse. Doubtful losses end nothing."""
    tried = []
    original = linear_file.path

    def watched(*args, **settings):
        for penalty, linear in original(*args, **settings):
            tried.append(penalty)
            yield penalty, linear

    monkeypatch.setattr(linear_file, "path", watched)
    few, l2 = blobs(2000, spread=1.5), (1.0, 1e-3, 1e-5, 1e-6)
    noisy = torch.cat([few.x, torch.randn(2000, 1000, generator=torch.Generator().manual_seed(0))], 1).double()
    assert chosen(noisy, few.y, 3, l2) == 1.0
    assert tried == [1.0, 1e-3, 1e-5]  # and not 1e-6
    tried.clear()
    assert chosen(noisy[:60], few.y[:60], 3, l2) == 1.0
    assert tried == list(l2)


def test_probe_is_blind_to_the_query_until_the_end(monkeypatch):
    """Neither its labels nor its samples reach the choice or the fit."""
    seen = []
    original = linear_file.choose

    def watched(x, y, classes, **settings):
        made = original(x, y, classes, **settings)
        seen.append((made[0], x.x @ x.axes.T, y))
        return made

    monkeypatch.setattr(linear_file, "choose", watched)
    bank, query = blobs(200, spread=2), blobs(200, spread=2, seed=1)
    other = Split(query.x * 100, query.y.flip(0))
    a, b = probe(bank, query)(Flat(), rows), probe(bank, other)(Flat(), rows)
    assert a["top1"] != b["top1"]
    assert a["l2"] == b["l2"] == seen[0][0] == seen[1][0]
    assert torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[0][1].mean(0).abs() < 1e-12, torch.ones(6, dtype=torch.bool))


@BOTH
def test_shuffled_labels_give_chance(make):
    bank, query = blobs(900), blobs(900, seed=1)
    assert make(bank, query)(Flat(), rows)["top1"] > 0.75
    rng = torch.Generator().manual_seed(0)
    bank, query = (Split(s.x, s.y[torch.randperm(900, generator=rng)]) for s in (bank, query))
    assert abs(make(bank, query)(Flat(), rows)["top1"] - 1 / 3) < 0.06  # four standard errors


@BOTH
def test_separate_classes_are_told_apart(make):
    assert make(blobs(150, spread=0.05), blobs(99, spread=0.05, seed=1))(Flat(), rows)["top1"] == 1


@BOTH
def test_dead_features_change_nothing(make):
    """Constants that float32 cannot average exactly are dead too: their rounding errors must not become features."""
    bank, query = blobs(300), blobs(300, seed=1)
    plain = probe(bank, query)(Flat(), rows)

    def encode(x):
        return torch.cat([x, torch.zeros(len(x), 3), torch.full((len(x), 1), 0.1 if make is probe else 0.0)], 1)

    got = make(bank, query)(Flat(), encode)
    assert got == pytest.approx(plain if make is probe else knn(bank, query)(Flat(), rows), abs=1 / 300 + 1e-9)


def test_rounding_errors_are_no_feature():
    """A feature of 0.1 whose last bits happen to tell the bank's classes is as dead as one of 0.1."""
    bank, query = blobs(300), blobs(300, seed=1)

    def encode(x):
        bits = 1e-8 * bank.y if x is bank.x else torch.zeros(300)
        return torch.cat([x, (0.1 + bits)[:, None]], 1)

    assert probe(bank, query)(Flat(), encode) == probe(bank, query)(Flat(), lambda x: x)


@BOTH
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_collapsed_encoder_scores_chance(make, value):
    """All samples alike: whatever the guess, it is right for the share of one class."""
    got = make(blobs(90), blobs(90, seed=1))(Flat(), lambda x: torch.full((len(x), 4), value))
    assert 0 <= got["top1"] < 0.5


@BOTH
def test_a_feature_that_is_not_finite_is_refused(make):
    with pytest.raises(FloatingPointError, match="diverged"):
        make(blobs(90), blobs(90))(Flat(), lambda x: x / 0)


@BOTH
def test_order_is_of_no_account(make):
    bank, query = blobs(300), blobs(300, seed=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    mixed_query = make(bank, Split(query.x[order], query.y[order]))(Flat(), rows)
    assert mixed_query == make(bank, query)(Flat(), rows)
    if make is knn:  # the probe's held-out part depends on the order of the bank
        assert make(Split(bank.x[order], bank.y[order]), query)(Flat(), rows) == mixed_query


@BOTH
def test_one_query_is_judged_alone(make):
    """Each sample's guess is its own, whatever stands beside it."""
    bank, query = blobs(200), blobs(12, seed=1)
    alone = [make(bank, Split(query.x[i : i + 1], query.y[i : i + 1]))(Flat(), rows)["top1"] for i in range(12)]
    assert make(bank, query)(Flat(), rows)["top1"] == pytest.approx(sum(alone) / 12)
    assert 0 < sum(alone) < 12


@BOTH
def test_classes_that_the_bank_lacks(make):
    """Classes 3 to 6 occur in the query alone and 7 nowhere: they cannot be right, and they disturb nothing."""
    bank, query = blobs(210), blobs(210, classes=7, seed=1)
    got = make(bank, query, 8)(Flat(), rows)
    known = query.y < 3
    among = make(bank, Split(query.x[known], query.y[known]), 8)(Flat(), rows)
    assert got["top1"] == pytest.approx(among["top1"] * known.double().mean().item())
    assert 0.5 < among["top1"] <= among["top5"] == 1


@BOTH
def test_one_class_and_classes_of_one(make):
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    alike = Split(x, torch.zeros(24, dtype=torch.int64))
    assert make(alike, alike)(Flat(), rows)["top1"] == 1
    apart = Split(x, torch.arange(24))
    assert 0 <= make(apart, apart, 24)(Flat(), rows)["top1"] <= 1


@BOTH
def test_top5_belongs_to_more_than_five_classes(make):
    for classes, names in ((5, {"top1"}), (6, {"top1", "top5"})):
        got = make(blobs(90, classes=classes), blobs(90, classes=classes, seed=1), classes)(Flat(), rows)
        assert set(got) - {"l2"} == names
        assert all(type(share) is float and 0 <= share <= 1 for share in got.values())


@BOTH
def test_encoder_labels_and_generators_are_left_as_found(make):
    bank, query, encoder = blobs(90), blobs(90, seed=1), Flat().eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    copies = [t.clone() for t in (bank.x, bank.y, query.x, query.y)]
    state = torch.get_rng_state()
    first = make(bank, query)(encoder, rows)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert make(bank, query)(encoder, rows) == first
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training
    assert torch.is_grad_enabled()
    assert all(torch.equal(a, b) for a, b in zip(copies, (bank.x, bank.y, query.x, query.y), strict=True))


def test_refusals_say_what_to_type():
    few, none = blobs(9), Split(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"k is 20 and the bank holds 9 samples; use evaluator\.knn\.k=9"):
        knn(few, few)
    with pytest.raises(ValueError, match="query"):
        knn(few, none, k=3)
    with pytest.raises(ValueError, match="query"):
        probe(few, none)
    with pytest.raises(ValueError, match="bank"):
        probe(none, few)


@pytest.mark.parametrize(("name", "kind"), [("knn", KNN), ("probe", Probe)])
def test_yaml_spells_out_the_defaults(name, kind):
    """Under its own key, so that evaluator=[knn,probe] holds both; the runtime's parameters are not in it."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(node) == [name]
    node = node[name]
    assert node.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    Duration.parse(node["every"])
    hints = get_type_hints(kind.__init__, include_extras=True)
    assert set(node) == set(hints) - {"return", "bank", "query", "classes"}
    parameters = signature(kind.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in node.items() if key != "every"} == defaults


def test_none_is_empty():
    assert yaml.safe_load((CONF / "none.yaml").read_text()) == {}
