"""kNN and probe on classes: chance, separable classes, dead features, classes that the bank lacks, order."""

import pytest
import torch
from evaluator_toys import EVERY, blobs, numbers

from ssl_runner.contract import Split
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe

pytestmark = pytest.mark.parametrize("kind", [KNN, Probe])


def measured(kind, bank, query, classes=3, encode=lambda rows: rows.float()):
    return numbers(kind(every=EVERY, bank=bank, query=query, classes=classes), encode=encode)


def test_shuffled_labels_give_chance(kind):
    bank, query = blobs(900), blobs(900, seed=1)
    assert measured(kind, bank, query)["top1"] > 0.75
    rng = torch.Generator().manual_seed(0)
    bank, query = (Split(s.x, s.y[torch.randperm(900, generator=rng)]) for s in (bank, query))
    assert abs(measured(kind, bank, query)["top1"] - 1 / 3) < 0.06  # four standard errors


def test_separate_classes_are_told_apart(kind):
    assert measured(kind, blobs(150, spread=0.05), blobs(99, spread=0.05, seed=1))["top1"] == 1


def test_dead_features_change_nothing(kind):
    """Constants that float32 cannot average exactly are dead too: their rounding errors must not become features."""
    bank, query = blobs(300), blobs(300, seed=1)

    def encode(x):
        return torch.cat([x, torch.zeros(len(x), 3), torch.full((len(x), 1), 0.1 if kind is Probe else 0.0)], 1)

    assert measured(kind, bank, query, encode=encode) == pytest.approx(measured(kind, bank, query), abs=1 / 300 + 1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_collapsed_encoder_scores_chance(kind, value):
    """All samples alike: whatever the guess, it is right for the share of one class."""
    values = measured(kind, blobs(90), blobs(90, seed=1), encode=lambda x: torch.full((len(x), 4), value))
    assert 0 <= values["top1"] < 0.5


def test_the_order_of_the_query_is_of_no_account(kind):
    bank, query = blobs(300), blobs(300, seed=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert measured(kind, bank, Split(query.x[order], query.y[order])) == measured(kind, bank, query)


def test_one_query_row_is_judged_alone(kind):
    """Each row's guess is its own, whatever stands beside it."""
    bank, query = blobs(200), blobs(12, seed=1)
    alone = [measured(kind, bank, Split(query.x[i : i + 1], query.y[i : i + 1]))["top1"] for i in range(12)]
    assert measured(kind, bank, query)["top1"] == pytest.approx(sum(alone) / 12)
    assert 0 < sum(alone) < 12


def test_classes_that_the_bank_lacks(kind):
    """Classes 3 to 6 occur in the query alone and 7 nowhere: they cannot be right, and they disturb nothing."""
    bank, query = blobs(210), blobs(210, classes=7, seed=1)
    known = query.y < 3
    among = measured(kind, bank, Split(query.x[known], query.y[known]), 8)
    assert measured(kind, bank, query, 8)["top1"] == pytest.approx(among["top1"] * known.double().mean().item())
    assert 0.5 < among["top1"] <= among["top5"] == 1


def test_one_class_and_classes_of_one(kind):
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    alike, apart = Split(x, torch.zeros(24, dtype=torch.int64)), Split(x, torch.arange(24))
    assert measured(kind, alike, alike)["top1"] == 1
    assert 0 <= measured(kind, apart, apart, 24)["top1"] <= 1


def test_top5_belongs_to_more_than_five_classes(kind):
    for classes, names in ((5, {"top1"}), (6, {"top1", "top5"})):
        values = measured(kind, blobs(90, classes=classes), blobs(90, classes=classes, seed=1), classes)
        assert set(values) - {"l2"} == names
        assert all(0 <= value <= 1 for value in values.values())
