"""Learning rates of a whole run, by hand."""

import math

import pytest
import torch
from torch import nn

from ssl_runner.duration import Duration, Length
from ssl_runner.optimizer.schedule import cosine, linear, stairs
from ssl_runner.optimizer.sgd import SGD


def test_a_warm_up_is_a_line_from_zero_to_one_without_its_ends():
    assert [linear(step, 4) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_cosine_by_hand():
    assert [cosine(p, 0.0) for p in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [cosine(p, 0.2) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])


def test_stairs_fall_at_each_milestone():
    shares = [stairs(p, (0.5, 0.8), 0.1) for p in (0.0, 0.49, 0.5, 0.79, 0.8, 1.0)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert stairs(0.9, (), 0.1) == 1


def test_rates_of_a_whole_run_by_hand():
    rule = SGD(batch_size=64, lr=1.0, warm_up=Duration(2.0, "st"))
    expected = [1 / 3, 2 / 3, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    assert [rule.rate(step, Length(6, 3, 64)) for step in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("warm_up", ["2ep", "8st", "40%"])
def test_warm_up_lasts_as_long_as_its_unit_says(warm_up):
    rule = SGD(batch_size=64, lr=1.0, warm_up=Duration.parse(warm_up), schedule="constant")
    rates = [rule.rate(step, Length(20, 4, 64)) for step in range(20)]
    assert rates == pytest.approx([(step + 1) / 9 for step in range(8)] + [1.0] * 12)


def test_steps_fall_at_shares_of_what_follows_the_warm_up():
    rule = SGD(batch_size=64, lr=1.0, warm_up=Duration(10.0, "st"), schedule="step", milestones=(0.5, 0.7), gamma=0.5)
    rates = [rule.rate(step, Length(20, 4, 64)) for step in range(10, 20)]
    assert rates == pytest.approx([1] * 5 + [0.5] * 2 + [0.25] * 3)


def test_without_warm_up_the_first_step_is_the_peak_and_the_last_still_learns():
    rule = SGD(batch_size=64, lr=0.3, warm_up=Duration(0.0, "st"))
    assert rule.rate(0, Length(100, 10, 64)) == 0.3
    assert 0 < rule.rate(99, Length(100, 10, 64)) < 1e-4
    assert SGD(batch_size=64, lr=0.3, final_lr=0.1).rate(99, Length(100, 10, 64)) == pytest.approx(0.03, rel=0.01)


def test_a_run_of_one_step_has_a_rate():
    assert SGD(batch_size=64).rate(0, Length(1, 1, 64)) == 0.05


def test_a_warm_up_may_fill_the_run_and_not_exceed_it():
    rule = SGD(batch_size=64, lr=1.0, warm_up=Duration(3.0, "st"))
    assert rule.rate(2, Length(3, 3, 64)) == 0.75
    with pytest.raises(ValueError, match=r"warm_up=3st is 3 steps, and the whole run has 2.*warm_up=5%"):
        rule.rate(0, Length(2, 3, 64))


def test_scaling_with_the_batch_is_linear_and_only_on_demand():
    assert SGD(batch_size=1024, lr=0.1).peak == 0.1
    scaled = SGD(batch_size=1024, lr=0.1, scale_lr=True, warm_up=Duration(0.0, "st"))
    assert scaled.peak == pytest.approx(0.4)
    assert scaled.rate(0, Length(10, 5, 1024)) == pytest.approx(0.4)
    assert scaled.build([("w", nn.Parameter(torch.ones(2, 2)))]).param_groups[0]["lr"] == pytest.approx(0.4)
