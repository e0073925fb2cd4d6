"""Our own data set, pretext task and protocol, on cases that a hand can solve."""

import torch
from ssl_runner.contract import Split
from ssl_runner.duration import Duration

from demo.dataset.stripes import CLASSES, Stripes
from demo.evaluator.centroid import Centroid


def test_stripes_are_those_of_their_seed_and_of_every_class():
    first, again, other = (Stripes(images=40, test=8, seed=seed).load() for seed in (1, 1, 2))
    assert torch.equal(first.train, again.train)
    assert not torch.equal(first.train, other.train)
    assert len(first.train) == Stripes(images=40, test=8).rows == 36
    assert first.test.y.bincount().tolist() == [2] * len(CLASSES)


def test_a_centroid_is_the_mean_of_a_class():
    """The means point along (1, 0) and (0, 1); the third row of the query is nearer to the other class's."""
    bank = Split(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1, 1]))
    query = Split(torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.4, 0.5]]), torch.tensor([0, 1, 0]))
    evaluator = Centroid(every=Duration.parse("1ep"), bank=bank, query=query, classes=2)
    metric = evaluator(None, lambda rows: rows)["top1"]
    assert abs(metric.value - 2 / 3) < 1e-6
