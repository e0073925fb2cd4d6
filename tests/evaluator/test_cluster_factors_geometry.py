"""Clusters against hand-solved matchings; factors where they were planted; geometry of samples and of their views."""

import pytest
import torch
from evaluator_toys import EVERY, IMAGE, Flat, metrics, numbers, pixels
from toys import still

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.evaluator.cluster import Cluster
from ssl_runner.evaluator.factors import Factors
from ssl_runner.evaluator.geometry import Geometry


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
    # More clusters than classes leave some without a class.
    values = cluster(torch.eye(4)[torch.arange(40) % 4], torch.arange(40) % 2, 2, clusters=4)
    assert (values["accuracy"], values["nmi"]) == (0.5, pytest.approx(2 / 3))
    with pytest.raises(ValueError, match=r"use evaluator\.cluster\.clusters=9"):
        cluster(torch.zeros(9, 3), torch.zeros(9).long(), 1, clusters=10)


def test_clusters_see_no_length_and_those_of_a_collapse_or_of_noise_have_chance(rng):
    x = torch.eye(2)[torch.arange(60) % 2] * torch.tensor([1.0, 30.0, 900.0])[torch.randint(3, (60, 1), generator=rng)]
    assert cluster(x, torch.arange(60) % 2, 2)["accuracy"] == 1
    assert cluster(x, torch.arange(60) % 2, 2, normalise=False)["accuracy"] < 1
    values = cluster(torch.ones(10, 4), [0] * 6 + [1] * 4, 2)
    assert values == pytest.approx({"accuracy": 0.6, "nmi": 0, "ari": 0})
    values = cluster(torch.randn(600, 8, generator=rng), torch.randint(3, (600,), generator=rng), 3)
    assert abs(values["ari"]) < 0.02
    assert 1 / 3 < values["accuracy"] < 0.45


def planted(n, seed):
    """Features that hold `seen`, half of `noisy`, the angle `hue` and the class `kind`, and nothing of `unseen`."""
    rng = torch.Generator().manual_seed(seed)
    seen, unseen, noisy = (torch.randn(n, *size, generator=rng) for size in ((2,), (), ()))
    hue, kind = torch.rand(n, generator=rng), torch.randint(4, (n,), generator=rng)
    angle = 2 * torch.pi * hue
    parts = [seen, (noisy + torch.randn(n, generator=rng))[:, None], torch.stack([angle.cos(), angle.sin()], 1)]
    x = torch.cat([*parts, torch.eye(4)[kind], torch.randn(n, 3, generator=rng)], 1)
    x = x @ torch.randn(x.shape[1], 20, generator=torch.Generator().manual_seed(9))
    return Split(x, kind, {"seen": seen, "unseen": unseen, "noisy": noisy, "hue": hue, "kind": kind})


def factors(bank, query, encoder=None, **settings):
    return numbers(Factors(every=EVERY, bank=bank, query=query, **settings), encoder)


def test_factors_are_read_off_where_they_were_planted_and_colour_off_pixels():
    bank, query = planted(1500, 0), planted(1000, 1)
    values = factors(bank, query)
    expected = {"seen": (1, 1e-3), "unseen": (0, 0.02), "noisy": (0.5, 0.05), "hue": (1, 1e-3), "kind": (1, 0)}
    assert list(values) == ["mean", *expected]
    assert all(abs(values[name] - score) <= close for name, (score, close) in expected.items()), values
    assert values["mean"] == pytest.approx(sum(values[name] for name in expected) / 5)
    assert factors(bank, query, circular=("hue",)) == values
    assert factors(bank, query, circular=())["hue"] < 0.7  # an angle read as a number breaks where it starts anew
    moved = [Split(s.x, s.y, {**s.targets, "hue": (s.targets["hue"] + 0.37) % 1}) for s in (bank, query)]
    assert factors(*moved)["hue"] == pytest.approx(values["hue"], abs=1e-3)
    data = Shapes(images=400, test=200, validation=0.0).load()
    values = factors(data.bank, data.test, encoder=pixels())
    assert set(values) == {*data.bank.targets, "mean"}
    assert values["background"] > 0.5 > values["shape"]


def test_the_scale_of_a_categorical_factor_begins_at_the_commonest_value():
    """Features that tell nothing score 0 and not 0.7 if 70 % are of one kind."""
    kind, half = torch.tensor([0] * 70 + [1] * 30), torch.zeros(100, 1)
    half[70:85] = 1  # half of the 30 are known: (0.85 - 0.7) / 0.3
    for x, score in ((torch.ones(100, 3), 0.0), (half, 0.5)):
        split = Split(x, kind, {"kind": kind})
        assert factors(split, split) == pytest.approx({"kind": score, "mean": score})


def test_a_factor_that_does_not_vary_is_left_out():
    bank, query = planted(200, 0), planted(100, 1)
    query = Split(query.x, query.y, {**query.targets, "seen": torch.ones(100, 2), "kind": torch.ones(100).long()})
    assert set(factors(bank, query)) == {"unseen", "noisy", "hue", "mean"}
    bare, one = Split(query.x), Split(query.x[:1], targets={name: each[:1] for name, each in query.targets.items()})
    for wanted, splits, circular in (
        ("no factor varies", (bank, one), ("hue",)),
        ("leave factors out", (bare, bare), ()),
        (r"'turn'.*seen, unseen.*type null", (bank, bank), ("turn",)),
    ):
        with pytest.raises(ValueError, match=wanted):
            factors(*splits, circular=circular)


NAMES = {"rankme", "rank", "alpha_req", "lidar", "alignment", "uniformity", "std", "dead"}


def geometry(n=40, gain=1.0, augment=Views(), **settings):  # noqa: B008
    """Of random images whose features are their mean colours times `gain`, without a pass over the training set."""
    train = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    evaluator = Geometry(every=EVERY, augment=augment, train=train, sample=IMAGE, **settings)
    values = metrics(evaluator, Flat(3, lambda x: gain * x.mean((2, 3))), encode=pytest.fail)
    assert all((each.better, each.unit) == (None, "number") for each in values.values())
    return {name: each.value for name, each in values.items()}


def test_geometry_depends_on_its_own_seed_and_takes_a_small_set_whole():
    assert set(geometry()) == NAMES
    assert geometry(seed=1) != geometry()
    assert geometry(samples=1000) == geometry(samples=40) != geometry(samples=20)
    assert set(geometry(2)) >= {"rankme", "std"}
    with pytest.raises(ValueError, match="two training rows"):
        geometry(1)


def test_views_are_those_of_the_same_sample_and_a_constant_encoder_is_a_point():
    """Without augmentation all views are one: alignment is 0. Without views there is none."""
    assert geometry(augment=still())["alignment"] == pytest.approx(0, abs=1e-9)
    assert geometry()["alignment"] > 1e-3
    assert set(geometry(augment=None)) == NAMES - {"lidar", "alignment"}
    point = {"rank": 0, "std": 0, "lidar": 0, "dead": 1, "alpha_req": None}
    values = geometry(gain=0.0)
    assert {name: values.get(name) for name in point} == point
