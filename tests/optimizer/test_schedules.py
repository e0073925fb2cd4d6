"""Learning rates of a whole run, by hand."""

import math

import pytest
import torch
from torch import nn

from ssl_runner.duration import Duration, Length
from ssl_runner.optimizer.schedule import cosine, linear, stairs
from ssl_runner.optimizer.sgd import SGD

NONE = Duration(0.0, "st")
ROOT = math.sqrt(0.5)


def rates(steps, per_epoch, **recipe):
    rule = SGD(**{"batch_size": 64, "lr": 1.0, **recipe})
    return [rule.rate(step, Length(steps, per_epoch, 64)) for step in range(steps)]


def test_shapes_by_hand():
    assert [linear(step, 4) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8]), "0 and 1 left out"
    assert [cosine(p, 0.0) for p in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [cosine(p, 0.2) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])
    shares = [stairs(p, (0.5, 0.8), 0.1) for p in (0.0, 0.49, 0.5, 0.79, 0.8, 1.0)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert stairs(0.9, (), 0.1) == 1


def test_rates_of_a_whole_run_by_hand():
    expected = [1 / 3, 2 / 3, 1, (1 + ROOT) / 2, 0.5, (1 - ROOT) / 2]
    assert rates(6, 3, warm_up=Duration(2.0, "st")) == pytest.approx(expected)
    steps = {"warm_up": Duration(10.0, "st"), "schedule": "step", "milestones": (0.5, 0.7), "gamma": 0.5}
    assert rates(20, 4, **steps)[10:] == pytest.approx([1] * 5 + [0.5] * 2 + [0.25] * 3), "of what follows the warm-up"


@pytest.mark.parametrize("warm_up", ["2ep", "8st", "40%"])
def test_warm_up_lasts_as_long_as_its_unit_says(warm_up):
    expected = [(step + 1) / 9 for step in range(8)] + [1.0] * 12
    assert rates(20, 4, warm_up=Duration.parse(warm_up), schedule="constant") == pytest.approx(expected)


def test_without_warm_up_the_first_step_is_the_peak_and_the_last_still_learns():
    first, *_, last = rates(100, 10, lr=0.3, warm_up=NONE)
    assert first == 0.3
    assert 0 < last < 1e-4
    assert rates(100, 10, lr=0.3, final_lr=0.1)[-1] == pytest.approx(0.03, rel=0.01)
    assert rates(1, 1, lr=0.05) == [0.05], "a run of one step"


def test_a_warm_up_may_fill_the_run_and_not_exceed_it():
    assert rates(3, 3, warm_up=Duration(3.0, "st"))[2] == 0.75
    with pytest.raises(ValueError, match=r"warm_up=3st is 3 steps, and the whole run has 2.*warm_up=5%"):
        rates(2, 3, warm_up=Duration(3.0, "st"))


def test_scaling_with_the_batch_is_linear_and_only_on_demand():
    assert SGD(batch_size=1024, lr=0.1).peak == 0.1
    scaled = SGD(batch_size=1024, lr=0.1, scale_lr=True, warm_up=NONE)
    assert scaled.peak == pytest.approx(0.4)
    assert scaled.rate(0, Length(10, 5, 1024)) == pytest.approx(0.4)
    assert scaled.build([("w", nn.Parameter(torch.ones(2, 2)))]).param_groups[0]["lr"] == pytest.approx(0.4)
