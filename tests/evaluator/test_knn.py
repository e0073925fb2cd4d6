"""kNN against scikit-learn, by hand, and where it could go wrong: memory, temperature, further targets."""

import numpy as np
import pytest
import torch
from evaluator_toys import EVERY, blobs, metrics, numbers
from sklearn.metrics import average_precision_score, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from ssl_runner.contract import Split
from ssl_runner.evaluator.knn import KNN
from ssl_runner.probing import knn_vote


def knn(bank, query, classes=3, k=20, temperature=0.07, target=None):
    return KNN(every=EVERY, k=k, temperature=temperature, target=target, bank=bank, query=query, classes=classes)


def test_votes_by_hand():
    """A near neighbour of class 0 outweighs two farther ones of class 1, until a high temperature levels them."""
    angles = torch.tensor([0.1, 0.9, 0.9])
    x = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[5.0], [1.0], [0.1]])
    bank, query = Split(x, torch.tensor([0, 1, 1])), Split(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    # exp(0.995 / 0.1) = 20,950 against 2 exp(0.622 / 0.1) = 1,003; at temperature 10 it is 1.10 against 2.13
    assert numbers(knn(bank, query, 2, k=3, temperature=0.1)) == {"top1": 1.0}
    assert numbers(knn(bank, query, 2, k=3, temperature=10.0)) == {"top1": 0.0}
    assert numbers(knn(bank, query, 2, k=1, temperature=10.0)) == {"top1": 1.0}


def test_votes_of_many_neighbours_of_one_class_are_summed():
    """Three of 0.9 beat two of 1: by the sum, not by the nearest and not by the last."""
    cosine = torch.tensor([1.0, 1.0, 0.9, 0.9, 0.9])
    bank, query = torch.stack([cosine, (1 - cosine.square()).sqrt()], 1), torch.tensor([[1.0, 0.0]])
    y = torch.tensor([4, 4, 2, 2, 2])
    assert knn_vote.rank_classes(bank, y, query, k=5, temperature=10.0, classes=6).tolist() == [[2, 4, -1, -1, -1]]


def vote(temperature):
    return lambda distance: np.exp((1 - distance) / temperature)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (50, 0.5)])
def test_predictions_are_those_of_scikit_learn(k, temperature):
    """The query's labels are scikit-learn's own guesses: one differing guess and top1 falls below 1."""
    bank, query = blobs(400, classes=7), blobs(300, classes=7, seed=1)
    peer = KNeighborsClassifier(k, metric="cosine", weights=vote(temperature))
    x = query.x.double().numpy()
    guesses = Split(query.x, torch.from_numpy(peer.fit(bank.x.double().numpy(), bank.y.numpy()).predict(x)))
    assert numbers(knn(bank, guesses, 7, k, temperature))["top1"] == 1.0
    values = numbers(knn(bank, query, 7, k, temperature))
    assert values["top1"] == pytest.approx(peer.score(x, query.y.numpy()), abs=1e-9)
    shares = peer.predict_proba(x)
    five = [y in np.argsort(-p)[:5] and p[y] > 0 for p, y in zip(shares, query.y.tolist(), strict=True)]
    assert values["top5"] == pytest.approx(np.mean(five), abs=1e-9)


def with_targets(split):
    """Numbers and labels that depend on the features."""
    numbers = split.x[:, :2] + 0.5 * split.x[:, 2:4].square()
    return Split(split.x, split.y, {"numbers": numbers, "angle": numbers[:, 0], "labels": numbers > 0.8})


def test_numbers_and_labels_are_those_of_scikit_learn():
    bank, query = with_targets(blobs(400)), with_targets(blobs(300, seed=1))
    x, z = (split.x.double().numpy() for split in (bank, query))
    peer = KNeighborsRegressor(20, metric="cosine", weights=vote(0.07))

    def predicted(name):
        return peer.fit(x, bank.targets[name].double().numpy()).predict(z)

    truth = {name: each.numpy() for name, each in query.targets.items()}
    r2 = r2_score(truth["numbers"], predicted("numbers"), multioutput="variance_weighted")
    evaluator = knn(bank, query, target="numbers")
    assert evaluator.headline == "r2"
    assert numbers(evaluator) == {"r2": pytest.approx(r2, abs=1e-5)}
    assert numbers(knn(bank, query, target="angle")) == {
        "r2": pytest.approx(r2_score(truth["angle"], predicted("angle")), abs=1e-5)
    }
    evaluator = knn(bank, query, target="labels")
    assert evaluator.headline == "map"
    precision = average_precision_score(truth["labels"], predicted("labels"), average="macro")
    assert numbers(evaluator) == {"map": pytest.approx(precision, abs=1e-3)}  # shares that are equal but for rounding


def test_numbers_by_hand():
    """Two neighbours at equal angles count alike, whatever their length: the mean of 1 and 3 for a truth of 2."""
    bank = Split(torch.tensor([[1.0, 1], [5, -5]]), targets={"z": torch.tensor([1.0, 3.0])})
    query = Split(torch.tensor([[1.0, 0], [0, 1], [0, -1]]), targets={"z": torch.tensor([2.0, 1.0, 3.0])})
    assert numbers(knn(bank, query, k=2, target="z"))["r2"] == pytest.approx(1, abs=1e-6)
    assert metrics(knn(bank, query, k=2, target="z"))["r2"][1:] == ("larger", "number")


def test_pieces_give_what_the_whole_gives(monkeypatch):
    bank, query = with_targets(blobs(200)), with_targets(blobs(101, seed=1))
    evaluators = [knn(bank, query, target=target) for target in (None, "numbers")]
    whole = [numbers(each) for each in evaluators]
    for cells in (7 * 200, 1):
        monkeypatch.setattr(knn_vote, "CELLS", cells)
        assert [numbers(each) for each in evaluators] == [whole[0], pytest.approx(whole[1])]


def test_the_whole_matrix_is_never_held(monkeypatch):
    sizes, original = [], torch.Tensor.topk

    def watched(self, *args, **kwargs):
        sizes.append(self.numel())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    monkeypatch.setattr(knn_vote, "CELLS", 2000)
    numbers(knn(blobs(200), blobs(100, seed=1)))
    assert max(sizes) == 2000


def test_a_very_small_temperature_is_the_nearest_neighbour():
    bank, query = blobs(200), blobs(100, seed=1)
    assert numbers(knn(bank, query, temperature=1e-6)) == numbers(knn(bank, query, k=1))


def test_top5_counts_no_class_without_a_vote():
    """With one neighbour there is one guess, whatever the classes that fill up the five."""
    values = numbers(knn(blobs(90, classes=9), blobs(90, classes=9, seed=1), 9, k=1))
    assert values["top5"] == values["top1"] < 1


def test_the_order_of_the_bank_is_of_no_account():
    bank, query = blobs(300), blobs(300, seed=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert numbers(knn(Split(bank.x[order], bank.y[order]), query)) == numbers(knn(bank, query))


def test_refusals_say_what_to_type():
    few = blobs(9)
    with pytest.raises(ValueError, match=r"k is 20 and the bank holds 9 samples; use evaluator\.knn\.k=9"):
        knn(few, few)
    with pytest.raises(ValueError, match="query"):
        knn(few, Split(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)), k=3)
