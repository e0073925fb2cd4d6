"""Linear probe against scikit-learn, blind to the query, and of further targets."""

import pytest
import torch
from evaluator_toys import EVERY, blobs, digits, metrics, numbers
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, r2_score

from ssl_runner.contract import Metric, Split
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe
from ssl_runner.probing import linear


def probe(bank, query, classes=3, l2=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), target=None):
    return Probe(every=EVERY, l2=l2, target=target, bank=bank, query=query, classes=classes)


def standardised(bank, query):
    mean, deviation = bank.x.double().mean(0), bank.x.double().std(0, correction=0)
    deviation[deviation == 0] = 1
    return (((split.x.double() - mean) / deviation).numpy() for split in (bank, query))


def test_accuracy_is_that_of_scikit_learn():
    bank, query = digits()
    x, z = standardised(bank, query)
    for l2 in (1e-1, 1e-3, 1e-5):
        peer = LogisticRegression(C=1 / (len(x) * l2), tol=1e-6, max_iter=3000).fit(x, bank.y.numpy())
        values = numbers(probe(bank, query, 10, l2=(l2,)))
        assert values["top1"] == pytest.approx(peer.score(z, query.y.numpy()), abs=1 / len(query.y) + 1e-9)
        assert values["top1"] <= values["top5"] <= 1


def test_the_query_is_not_seen_until_the_end(monkeypatch):
    """Neither its labels nor its samples reach the choice or the fit."""
    seen, original = [], linear.choose_l2

    def watched(x, y, classes, **settings):
        choice = original(x, y, classes, **settings)
        seen.append((choice[0], x.x @ x.axes.T))
        return choice

    monkeypatch.setattr(linear, "choose_l2", watched)
    bank, query = blobs(200, spread=2), blobs(200, spread=2, seed=1)
    a, b = (numbers(probe(bank, each)) for each in (query, Split(query.x * 100, query.y.flip(0))))
    assert a["top1"] != b["top1"]
    assert a["l2"] == b["l2"] == seen[0][0] == seen[1][0]
    assert torch.equal(seen[0][1], seen[1][1])
    assert (seen[0][1].mean(0).abs() < 1e-12).all()


def test_rounding_errors_are_no_feature():
    """A feature of 0.1 whose last bits happen to tell the bank's classes is as dead as one of 0.1."""
    bank, query = blobs(300), blobs(300, seed=1)

    def encode(x):
        bits = 1e-8 * bank.y if x is bank.x else torch.zeros(300)
        return torch.cat([x, (0.1 + bits)[:, None]], 1)

    assert numbers(probe(bank, query), encode=encode) == numbers(probe(bank, query))


def with_targets(n, seed):
    """Numbers and labels that a linear model knows in part; a further class; nothing of `noise`."""
    split = blobs(n, seed=seed)
    rng = torch.Generator().manual_seed(seed + 10)
    position = split.x[:, :2] + 0.5 * torch.randn(n, 2, generator=rng)
    noise = torch.randn(n, generator=rng)
    labels = torch.cat([position > 0.5, noise[:, None] > 0], 1)
    targets = {"position": position, "noise": noise, "labels": labels, "side": (position[:, 0] > 0).long()}
    return Split(split.x, None, targets)


def test_numbers_are_those_of_scikit_learns_ridge():
    bank, query = with_targets(300, 0), with_targets(200, 1)
    x, z = standardised(bank, query)
    truth = query.targets["position"].double().numpy()
    guess = Ridge(1e-2 * 300).fit(x, bank.targets["position"].double().numpy()).predict(z)
    evaluator = probe(bank, query, l2=(1e-2,), target="position")
    assert evaluator.headline == "r2"
    r2 = r2_score(truth, guess, multioutput="variance_weighted")
    assert numbers(evaluator) == {"r2": pytest.approx(r2, abs=1e-6), "l2": 1e-2}
    assert metrics(evaluator)["r2"][1:] == ("larger", "number")
    assert metrics(evaluator)["l2"] == Metric(1e-2, None, "number")


def test_labels_are_those_of_scikit_learns_logistic_regressions():
    bank, query = with_targets(300, 0), with_targets(200, 1)
    x, z = standardised(bank, query)
    peers = [
        LogisticRegression(C=2 / (300 * 1e-2), tol=1e-8, max_iter=2000).fit(x, label).decision_function(z)
        for label in bank.targets["labels"].T.numpy()
    ]
    precisions = [average_precision_score(*each) for each in zip(query.targets["labels"].T.numpy(), peers, strict=True)]
    evaluator = probe(bank, query, l2=(1e-2,), target="labels")
    assert evaluator.headline == "map"
    assert numbers(evaluator) == {"map": pytest.approx(sum(precisions) / 3, abs=1e-3), "l2": 1e-2}
    assert metrics(evaluator)["map"][1:] == ("larger", "share")


def test_nothing_is_read_off_where_nothing_is():
    bank, query = with_targets(1000, 0), with_targets(1000, 1)
    assert numbers(probe(bank, query, target="noise"))["r2"] == pytest.approx(0, abs=0.02)
    assert numbers(probe(bank, query, target="position"))["r2"] > 0.7


def test_the_strength_is_chosen_on_rows_that_were_not_fitted():
    """As many features of noise as rows: the weakest penalty fits them all and predicts nothing."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(500, 110, generator=rng)
    z = x[:, 0] + 0.5 * torch.randn(500, generator=rng)
    for target in (z, torch.stack([z > 0, z > 1], 1)):
        bank, query = (Split(x[s], targets={"z": target[s]}) for s in (slice(120), slice(120, None)))
        weak, strong, both = (numbers(probe(bank, query, l2=l2, target="z")) for l2 in ((1e-6,), (1.0,), (1e-6, 1.0)))
        assert both == strong
        assert next(iter(strong.values())) > next(iter(weak.values())) + 0.02


def test_a_further_class_is_measured_as_the_class_is():
    bank, query = with_targets(300, 0), with_targets(200, 1)
    plain = [Split(split.x, split.targets["side"]) for split in (bank, query)]
    assert numbers(probe(bank, query, target="side")) == numbers(probe(*plain, classes=2))


def test_unknown_and_unvarying_targets_are_refused():
    split = with_targets(30, 0)
    with pytest.raises(ValueError, match="target: the rows have no class; possible are position, noise, labels, side"):
        probe(split, split)
    with pytest.raises(ValueError, match=r"target: given hue; possible are position, .* or leave the probe out"):
        probe(split, split, target="hue")
    with pytest.raises(ValueError, match="knows no further targets; type null for the class"):
        probe(blobs(9), blobs(9), target="hue")
    still = Split(split.x, targets={"z": torch.ones(30), "none": torch.zeros(30, 2, dtype=torch.bool)})
    for target, kind in (("z", Probe), ("none", Probe), ("z", KNN)):
        more = {"k": 3} if kind is KNN else {}
        evaluator = kind(every=EVERY, target=target, bank=still, query=still, classes=1, **more)
        with pytest.raises(ValueError, match="does not vary"):
            numbers(evaluator)
