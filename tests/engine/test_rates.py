"""Learning rates and weight decay of each parameter group: the optimizer's schedule times the method's factors."""

import math

import pytest
import torch
from engine_toys import MEAN, START, Slope, learn, learner, weights
from torch import nn

from ssl_runner.contract import Loss, Rate
from ssl_runner.duration import Duration
from ssl_runner.engine.rates import GroupOptimizer
from ssl_runner.optimizer.sgd import SGD


class Headed(Slope):
    """Two heads beside the encoder, with weights and biases of ones and a gradient of ones everywhere."""

    def __init__(self, rates=lambda step: {}):
        super().__init__(lambda loss: Loss(loss.value + sum(p.sum() for p in parameters)))
        self.rates = lambda ctx: rates(ctx.step)
        self.head, self.heads = nn.Linear(2, 1), nn.ModuleList([nn.Linear(2, 1)])
        parameters = [nn.init.ones_(p) for p in (*self.head.parameters(), *self.heads.parameters())]


WARM = {"lr": 0.9, "warm_up": Duration(2.0, "st")}  # rates of 0.3, 0.6, 0.9, 0.9


def late(prefix):
    """A head that is held still for two steps."""
    return lambda step: {prefix: Rate(0.0 if step < 2 else 1.0)}


CASES = {  # rates by step, steps, the recipe, and where parameters that began as ones are then
    "biases, a group of torch's of their own, have the rate too": (
        *(lambda step: {}, 1, {**WARM, "weight_decay": 0.1}),
        {"head.bias": 1 - 0.3, "head.weight": 1 - 0.3 * 1.1},
    ),
    "at a rate of 0 nothing moves and nothing decays": (
        *(lambda step: {"head.": Rate(0.0)}, 3, {"momentum": 0.9, "weight_decay": 0.1}),
        {"head.weight": 1, "head.bias": 1, "heads.0.bias": 1 - 0.5 * (1 + 1.9 + 2.71)},
    ),
    "what was held still learns from then on": (late("head."), 3, {}, {"head.bias": 0.5, "heads.0.bias": -0.5}),
    "a prefix is of the name, so both are held": (late("head"), 3, {}, {"head.bias": 0.5, "heads.0.bias": 0.5}),
    "a constant rate ignores the schedule": (
        *(lambda step: {"head.": Rate(constant=True), "heads.": Rate(0.5, constant=True)}, 1, WARM),
        {"head.bias": 1 - 0.9, "heads.0.bias": 1 - 0.45, "encoder.weight": 1 - 0.3 * 2},
    ),
    "factors multiply rate and decay, and biases do not decay": (
        *(lambda step: {"head.": Rate(0.1, decay=3.0), "heads.": Rate(decay=0.0)}, 1, {"weight_decay": 0.2}),
        {"head.weight": 1 - 0.05 * (1 + 0.6), "head.bias": 1 - 0.05, "heads.0.weight": 1 - 0.5},
    ),
    "the longest prefix counts": (
        *(lambda step: {"head": Rate(0.0), "head.weight": Rate(0.5), "h": Rate(0.2), "": Rate(0.1)}, 1, {}),
        {"head.weight": 1 - 0.25, "head.bias": 1, "heads.0.weight": 1, "encoder.weight": 1 - 0.05 * 2},
    ),
}


@pytest.mark.parametrize(("rates", "steps", "recipe", "expected"), CASES.values(), ids=CASES)
def test_parameters_move_by_the_schedule_times_their_factors(rates, steps, recipe, expected):
    taught = learner(Headed(rates), **recipe)
    learn(taught, steps)
    after = {name: p.detach().flatten()[0].item() for name, p in taught.pretext.named_parameters()}
    assert {name: after[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_weight_decay_follows_a_cosine_to_its_last_step(start):
    """Also if it begins at 0: what it is meant for is told by the parameters."""
    taught = learner(Headed(), weight_decay=start, final_weight_decay=0.4, steps=5, lr=1e-9)
    groups = taught.optimizers["main"].optimizer.param_groups
    for step in range(5):
        taught.step(step)
        cosine = 0.4 + (start - 0.4) * (1 + math.cos(math.pi * step / 4)) / 2
        assert [group["weight_decay"] for group in groups] == pytest.approx([cosine, 0.0]), "biases do not decay"


def test_clipped_is_what_learns():
    """A held head's gradient is no part of the norm that is clipped, nor of the one that is logged."""
    taught = learner(Headed(lambda step: {"head": Rate(0.0)}), clip=1.0)
    assert learn(taught, measure_gradient=True)["optimizer/gradient_norm"] == pytest.approx(20**0.5)
    assert torch.allclose(weights(taught), START - 0.5 * MEAN / 20**0.5, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_an_optimizer_all_of_whose_parameters_are_held_still_leaves_them(precision):
    """As a discriminator that is to begin late; fp16's scaler asks for a gradient."""
    taught = learner(Headed(lambda step: {"": Rate(float(step > 0))}), precision=precision, clip=1.0)
    assert "optimizer/gradient_norm" not in learn(taught, 1, measure_gradient=True)
    assert torch.equal(weights(taught), START)
    taught.step(1)
    assert not torch.equal(weights(taught), START)


def test_groups_are_cut_without_losing_a_parameter_or_an_option():
    taught = learner(pretext := Headed())
    named, recipe = list(pretext.named_parameters()), SGD(batch_size=8, momentum=0.9, nesterov=True)
    first, scaler = recipe.settings(0, taught.length), taught.device.scaler()
    cut = GroupOptimizer(recipe, named, ["head.", "heads."], first, scaler)
    groups = cut.optimizer.param_groups
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for _, p in named)
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in groups)
    assert cut.prefixes == ["head.", "heads.", "", "head.", "heads."]
    assert cut.decays == [True, True, False, False, False]
