"""Clusters against hand-solved matchings, chance and a collapse."""

import pytest
import torch
from evaluator_toys import EVERY, numbers

from ssl_runner.contract import Split
from ssl_runner.evaluator.cluster import Cluster


def cluster(x, y, classes, **settings):
    return numbers(Cluster(every=EVERY, query=Split(x, torch.as_tensor(y)), classes=classes, **settings))


def test_clusters_are_matched_to_classes_whatever_their_numbers():
    """Three far points: the classes are a permutation of whatever numbers k-means gives, but for one sample in ten."""
    where = torch.tensor([2, 2, 2, 2, 0, 0, 0, 1, 1, 1])
    values = cluster(torch.eye(3)[where], [0, 0, 0, 0, 1, 1, 1, 2, 2, 0], 3)
    assert values["accuracy"] == pytest.approx(0.9)
    # Of 45 pairs 12 are together in clusters (6 + 3 + 3), 14 in classes (10 + 3 + 1) and 10 in both (6 + 3 + 1).
    chance = 12 * 14 / 45
    assert values["ari"] == pytest.approx((10 - chance) / (13 - chance))
    assert 0 < values["nmi"] < 1
    assert cluster(torch.eye(3)[where], where, 3) == pytest.approx({"accuracy": 1, "nmi": 1, "ari": 1})


def test_the_matching_is_the_best_one_to_one():
    """A greedy matching would give cluster 0 to class 0 (5), and leave 0 of class 1 for cluster 1."""
    x = torch.tensor([[1.0, 0]] * 9 + [[0, 1.0]] * 4)
    assert cluster(x, [0] * 5 + [1] * 4 + [0] * 4, 2)["accuracy"] == pytest.approx(8 / 13)


def test_more_clusters_than_classes_leave_some_without_a_class():
    values = cluster(torch.eye(4)[torch.arange(40) % 4], torch.arange(40) % 2, 2, clusters=4)
    assert values["accuracy"] == 0.5
    assert values["nmi"] == pytest.approx(2 / 3)


def test_features_of_unit_length_have_no_length_to_see():
    y = torch.arange(60) % 2
    length = torch.tensor([1.0, 30.0, 900.0])[torch.randint(3, (60, 1), generator=torch.Generator().manual_seed(0))]
    assert cluster(torch.eye(2)[y] * length, y, 2)["accuracy"] == 1
    assert cluster(torch.eye(2)[y] * length, y, 2, normalise=False)["accuracy"] < 1


def test_a_collapsed_encoder_has_the_largest_class_and_noise_has_chance():
    values = cluster(torch.ones(10, 4), [0] * 6 + [1] * 4, 2)
    assert values == pytest.approx({"accuracy": 0.6, "nmi": 0, "ari": 0})
    rng = torch.Generator().manual_seed(0)
    values = cluster(torch.randn(600, 8, generator=rng), torch.randint(3, (600,), generator=rng), 3)
    assert abs(values["ari"]) < 0.02
    assert 1 / 3 < values["accuracy"] < 0.45


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(ValueError, match=r"use evaluator\.cluster\.clusters=9"):
        cluster(torch.zeros(9, 3), torch.zeros(9).long(), 1, clusters=10)
