"""Geometry as an evaluator: its names, its own generators, views of the same sample, a constant encoder."""

import pytest
import torch
from evaluator_toys import EVERY, IMAGE, metrics

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Features
from ssl_runner.evaluator.geometry import Geometry
from ssl_runner.layers.image_encoder import ImageEncoder

NAMES = {"rankme", "rank", "alpha_req", "lidar", "alignment", "uniformity", "std", "dead"}
STILL = Views(scale=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)


class Colours(ImageEncoder):
    """Pooled features are the image's mean colours times `gain`."""

    dim = 3

    def __init__(self, gain=1.0):
        super().__init__((0.5,) * 3, (0.25,) * 3)
        self.gain = gain

    def forward(self, x, keep=None):
        pooled = self.gain * x.mean((2, 3))
        return Features(pooled, pooled[:, None], (1,))


def rows(n):
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def measured(train, gain=1.0, augment=Views(), **settings):  # noqa: B008
    def encode(asked):
        raise AssertionError("a pass over the whole training set for a sample of it")

    evaluator = Geometry(every=EVERY, augment=augment, train=train, sample=IMAGE, **settings)
    values = metrics(evaluator, Colours(gain), encode)
    assert all(each[1:] == (None, "number") for each in values.values())
    return {name: each.value for name, each in values.items()}


def test_it_names_every_measure_and_depends_on_its_own_seed():
    assert set(measured(rows(40))) == NAMES
    assert measured(rows(40), seed=1) != measured(rows(40))


def test_a_set_smaller_than_the_sample_is_taken_whole():
    assert measured(rows(40), samples=1000) == measured(rows(40), samples=40) != measured(rows(40), samples=20)
    assert set(measured(rows(2))) >= {"rankme", "std"}
    with pytest.raises(ValueError, match="two training rows"):
        measured(rows(1))


def test_views_are_those_of_the_same_sample():
    """Without augmentation all views are one: alignment is 0. Without views there is none."""
    assert measured(rows(40), augment=STILL)["alignment"] == pytest.approx(0, abs=1e-9)
    assert measured(rows(40))["alignment"] > 1e-3
    assert set(measured(rows(40), augment=None)) == NAMES - {"lidar", "alignment"}


def test_a_constant_encoder_is_a_point():
    values = measured(rows(40), gain=0.0)
    assert "alpha_req" not in values
    assert (values["rank"], values["std"], values["lidar"], values["dead"]) == (0, 0, 0, 1)
