"""kNN, the linear probe and factors: chance, peers in scikit-learn, votes by hand, memory, further targets."""

import functools
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from evaluator_toys import EVERY, blobs, digits, metrics, numbers
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from ssl_runner.contract import Metric, Split
from ssl_runner.evaluator.factors import Factors
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe
from ssl_runner.probing import knn_vote, linear

EITHER = pytest.mark.parametrize("kind", [KNN, Probe])


def build(kind, bank, query, classes=3, **settings):
    return kind(every=EVERY, bank=bank, query=query, classes=classes, **{"class_names": (), **settings})


knn, probe = (functools.partial(build, kind) for kind in (KNN, Probe))


def measured(kind, bank, query, classes=3, encode=None):
    return numbers(build(kind, bank, query, classes), encode=encode)


def shuffled(split, labels_alone=False):
    order = torch.randperm(len(split.y), generator=torch.Generator().manual_seed(0))
    return Split(split.x if labels_alone else split.x[order], split.y[order])


@EITHER
def test_shuffled_labels_and_collapsed_features_give_chance_and_separate_classes_are_told_apart(kind):
    bank, query = blobs(900), blobs(900, seed=1)
    assert measured(kind, bank, query)["top1"] > 0.75
    chance = measured(kind, shuffled(bank, labels_alone=True), shuffled(query, labels_alone=True))["top1"]
    assert abs(chance - 1 / 3) < 0.06  # four standard errors
    assert measured(kind, blobs(150, spread=0.05), blobs(99, spread=0.05, seed=1))["top1"] == 1
    for value in (0.0, 0.1, 1e6):  # all samples alike: whatever the guess, it is right for the share of one class
        values = measured(kind, blobs(90), blobs(90, seed=1), encode=lambda x: torch.full((len(x), 4), value))  # noqa: B023
        assert 0 <= values["top1"] < 0.5


@EITHER
def test_features_whose_length_float32_cannot_hold_are_refused(kind):
    """At 1e19 a cosine is 0 over infinity; up to 1e18 the scale changes nothing."""
    bank, query = blobs(300), blobs(300, seed=1)
    plain, large = (measured(kind, bank, query, encode=lambda x, scale=scale: scale * x) for scale in (1, 1e18))
    assert large["top1"] == pytest.approx(plain["top1"], abs=1 / 300 + 1e-9)
    with pytest.raises(FloatingPointError, match="diverged"):
        measured(kind, bank, query, encode=lambda x: 1e25 * x)


@EITHER
def test_dead_features_change_nothing(kind):
    """Constants that float32 cannot average exactly are dead too, and if their last bits tell the bank's classes."""
    bank, query = blobs(300), blobs(300, seed=1)

    def encode(x):
        bits = 1e-8 * bank.y if x is bank.x else torch.zeros(300)
        constant = (0.1 + bits)[:, None] if kind is Probe else torch.zeros(300, 1)
        return torch.cat([x, torch.zeros(len(x), 3), constant], 1)

    assert measured(kind, bank, query, encode=encode) == pytest.approx(measured(kind, bank, query), abs=1 / 300 + 1e-9)


@EITHER
def test_no_row_and_no_class_of_the_query_disturbs_another(kind, rng):
    """Whatever stands beside a row, and in whatever order; classes 3 to 6 occur in the query alone and 7 nowhere."""
    bank, query = blobs(200), blobs(12, seed=1)
    alone = [measured(kind, bank, Split(query.x[i : i + 1], query.y[i : i + 1]))["top1"] for i in range(12)]
    assert measured(kind, bank, query)["top1"] == pytest.approx(sum(alone) / 12)
    assert 0 < sum(alone) < 12
    assert measured(kind, bank, shuffled(query)) == measured(kind, bank, query)
    bank, query = blobs(210), blobs(210, classes=7, seed=1)
    known = query.y < 3
    among = measured(kind, bank, Split(query.x[known], query.y[known]), 8)
    assert measured(kind, bank, query, 8)["top1"] == pytest.approx(among["top1"] * known.double().mean().item())
    assert 0.5 < among["top1"] <= among["top5"] == 1
    recalls = [*metrics(build(kind, bank, query, 8))["top1"].classes.values()]
    assert (recalls[3:], min(recalls[:3]) > 0) == ([0.0] * 4 + [None], True)
    assert measured(kind, blobs(90, classes=5), blobs(90, classes=5), 5).keys() - {"l2"} == {"top1"}
    x = torch.randn(24, 6, generator=rng)
    alike, apart = Split(x, torch.zeros(24, dtype=torch.int64)), Split(x, torch.arange(24))
    assert measured(kind, alike, alike)["top1"] == 1
    assert 0 <= measured(kind, apart, apart, 24)["top1"] <= 1


def test_votes_by_hand():
    """A near neighbour of class 0 outweighs two farther ones of class 1, until a high temperature levels them."""
    angles = torch.tensor([0.1, 0.9, 0.9])
    x = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[5.0], [1.0], [0.1]])
    bank, query = Split(x, torch.tensor([0, 1, 1])), Split(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    # exp(0.995 / 0.1) = 20,950 against 2 exp(0.622 / 0.1) = 1,003; at temperature 10 it is 1.10 against 2.13
    for k, temperature, right in ((3, 0.1, 1.0), (3, 10.0, 0.0), (1, 10.0, 1.0)):
        assert numbers(knn(bank, query, 2, k=k, temperature=temperature)) == {"top1": right}
    # Three of cosine 0.9 beat two of 1: votes are summed.
    cosine = torch.tensor([1.0, 1.0, 0.9, 0.9, 0.9])
    x, y = torch.stack([cosine, (1 - cosine.square()).sqrt()], 1), torch.tensor([4, 4, 2, 2, 2])
    model = knn_vote.Neighbours(x, y, classes=6, k=5, temperature=10.0)
    ranked, shares = model.rank_classes(torch.tensor([[1.0, 0.0]]))
    assert ranked.tolist() == [[2, 4, -1, -1, -1]]
    assert shares.sum() == pytest.approx(1)
    bank, query = blobs(300), blobs(100, seed=1)  # a tiny temperature is the nearest neighbour
    assert numbers(knn(bank, query, temperature=1e-6)) == numbers(knn(bank, query, k=1))


def vote(temperature):
    return lambda distance: np.exp((1 - distance) / temperature)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (50, 0.5)])
def test_votes_are_those_of_scikit_learn(k, temperature):
    """The query's labels are scikit-learn's own guesses: one differing guess and top1 falls below 1."""
    bank, query = blobs(400, classes=7), blobs(300, classes=7, seed=1)
    peer = KNeighborsClassifier(k, metric="cosine", weights=vote(temperature))
    x = query.x.double().numpy()
    guesses = Split(query.x, torch.from_numpy(peer.fit(bank.x.double().numpy(), bank.y.numpy()).predict(x)))
    assert numbers(knn(bank, guesses, 7, k=k, temperature=temperature))["top1"] == 1.0
    shares = peer.predict_proba(x)
    five = [y in np.argsort(-p)[:5] and p[y] > 0 for p, y in zip(shares, query.y.tolist(), strict=True)]
    expected = {"top1": peer.score(x, query.y.numpy()), "top5": np.mean(five)}
    assert numbers(knn(bank, query, 7, k=k, temperature=temperature)) == pytest.approx(expected, abs=1e-9)


def test_accuracy_of_the_probe_is_that_of_scikit_learn():
    bank, query = digits()
    scaler = StandardScaler().fit(bank.x.double())
    for l2 in (1e-1, 1e-3, 1e-5):
        peer = LogisticRegression(C=1 / (len(bank.x) * l2), tol=1e-6, max_iter=3000)
        score = peer.fit(scaler.transform(bank.x), bank.y).score(scaler.transform(query.x), query.y)
        values = numbers(probe(bank, query, 10, l2=(l2,)))
        assert pytest.approx(score, abs=1 / len(query.y) + 1e-9) == values["top1"] <= values["top5"] <= 1


def with_targets(n, seed):
    """Numbers and labels that a model knows in part; a further class; nothing of `noise`."""
    split, rng = blobs(n, seed=seed), torch.Generator().manual_seed(seed + 10)
    position, noise = split.x[:, :2] + 0.5 * torch.randn(n, 2, generator=rng), torch.randn(n, generator=rng)
    labels = torch.cat([position > 0.5, noise[:, None] > 0], 1)
    side = (split.x[:, 3] > 0).long()
    return Split(split.x, targets={"position": position, "noise": noise, "labels": labels, "side": side})


def test_numbers_and_labels_are_those_of_scikit_learn():
    bank, query = with_targets(400, 0), with_targets(300, 1)
    x, z = (split.x.double().numpy() for split in (bank, query))
    neighbours = KNeighborsRegressor(20, metric="cosine", weights=vote(0.07))
    ridge, logistic = Ridge(1e-2 * 400), LogisticRegression(C=2 / (400 * 1e-2), tol=1e-8, max_iter=2000)
    u, v = (StandardScaler().fit(x).transform(each) for each in (x, z))
    factors = numbers(Factors(every=EVERY, bank=bank, query=query, l2=(1e-2,)))
    scores = {}
    for name, headline, unit in (("position", "r2", "number"), ("noise", "r2", "number"), ("labels", "map", "share")):
        y, truth = (split.targets[name].double().numpy() for split in (bank, query))
        if headline == "r2":
            close, score = 1e-5, functools.partial(r2_score, truth, multioutput="variance_weighted")
            linearly = ridge.fit(u, y).predict(v)
        else:
            close, score = 1e-3, functools.partial(average_precision_score, truth)  # votes are equal but for rounding
            linearly = np.stack([logistic.fit(u, label).decision_function(v) for label in y.T], 1)
        scores[name] = score(linearly)
        for evaluator, expected, more in (
            (knn(bank, query, target=name), score(neighbours.fit(x, y).predict(z)), {}),
            (probe(bank, query, target=name, l2=(1e-2,)), scores[name], {"l2": Metric(1e-2, None, "number")}),
        ):
            assert evaluator.headline == headline
            assert metrics(evaluator) == {headline: Metric(pytest.approx(expected, abs=close), "larger", unit), **more}
        assert name == "labels" or factors[name] == pytest.approx(max(scores[name], 0), abs=1e-6)
    assert scores["position"] > 0.6 > 0.1 > scores["noise"]


def test_the_whole_matrix_is_never_held_and_pieces_give_what_it_gives(monkeypatch):
    bank, query = with_targets(200, 0), with_targets(101, 1)
    evaluators = [knn(bank, query, target=target) for target in ("side", "position")]
    whole = [numbers(each) for each in evaluators]
    sizes, original = [], torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, *args: sizes.append(self.numel()) or original(self, *args))
    for cells in (7 * 200, 1):
        sizes.clear()
        monkeypatch.setattr(knn_vote, "CELLS", cells)
        assert [numbers(each) for each in evaluators] == [whole[0], pytest.approx(whole[1])]
        assert max(sizes) == max(cells, 200)


def test_the_query_is_not_seen_until_the_end(monkeypatch):
    """Neither its labels nor its samples reach the choice or the fit."""
    monkeypatch.setattr(linear, "choose_l2", choose := Mock(wraps=linear.choose_l2))
    bank, query = blobs(200, spread=2), blobs(200, spread=2, seed=1)
    a, b = (numbers(probe(bank, each)) for each in (query, Split(query.x * 100, query.y.flip(0))))
    assert (a["top1"] != b["top1"], a["l2"]) == (True, b["l2"])
    x, z = (rotated.x @ rotated.axes.T for (rotated, *_), _ in choose.call_args_list)
    assert torch.equal(x, z)
    assert (x.mean(0).abs() < 1e-12).all()


def test_the_strength_is_chosen_on_rows_that_were_not_fitted(rng):
    """As many features of noise as rows: the weakest penalty fits them all and predicts nothing."""
    x = torch.randn(500, 110, generator=rng)
    z = x[:, 0] + 0.5 * torch.randn(500, generator=rng)
    factors, of_z = functools.partial(Factors, every=EVERY), functools.partial(probe, target="z")
    for make, target in ((of_z, z), (of_z, torch.stack([z > 0, z > 1], 1)), (factors, z)):
        bank, query = (Split(x[s], targets={"z": target[s]}) for s in (slice(120), slice(120, None)))
        weak, strong, both = (numbers(make(bank=bank, query=query, l2=l2)) for l2 in ((1e-6,), (1.0,), (1e-6, 1.0)))
        assert both == strong
        assert next(iter(strong.values())) > next(iter(weak.values())) + 0.02


@EITHER
def test_a_further_class_is_measured_as_the_class_is(kind):
    bank, query = with_targets(300, 0), with_targets(200, 1)
    plain = [Split(split.x, split.targets["side"]) for split in (bank, query)]
    names = {"class_names": ("left", "right"), "classes": 2}
    by_target, by_class = (
        metrics(build(kind, bank, query, target="side", **names)),
        metrics(build(kind, *plain, **names)),
    )
    assert {name: each.value for name, each in by_target.items()} == {
        name: each.value for name, each in by_class.items()
    }
    assert [[*each["top1"].classes] for each in (by_target, by_class)] == [["0", "1"], ["left", "right"]]


def test_refusals_say_what_to_type():
    split, few = with_targets(30, 0), blobs(9)
    for wanted, evaluate in (
        (r"k is 20 and the bank holds 9 samples; use evaluator\.knn\.k=9", lambda: knn(few, few)),
        ("the query holds no labelled sample", lambda: knn(few, Split(few.x[:0], few.y[:0]), k=3)),
        ("target: the rows have no class; possible are position, noise, labels, side", lambda: probe(split, split)),
        ("given hue; possible are position, .* or leave probe out", lambda: probe(split, split, target="hue")),
        ("knows no further targets; type null for the class", lambda: probe(few, few, target="hue")),
    ):
        with pytest.raises(ValueError, match=wanted):
            evaluate()
    still = Split(split.x, targets={"z": torch.ones(30), "none": torch.zeros(30, 2, dtype=torch.bool)})
    for evaluator, target in ((probe, "z"), (probe, "none"), (knn, "z")):
        with pytest.raises(ValueError, match="does not vary"):
            numbers(evaluator(still, still, target=target))
