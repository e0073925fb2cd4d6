"""Learning rates and weight decay of each parameter group: the optimizer's schedule times the method's factors."""

import math

import pytest
import torch
from engine_toys import MEAN, START, Slope, learn, learner, weights
from torch import nn

from ssl_runner.contract import Loss, Rate
from ssl_runner.duration import Duration
from ssl_runner.engine.rates import longest_prefix, rated
from ssl_runner.optimizer.sgd import SGD

WARM = {"lr": 0.9, "warm_up": Duration(2.0, "st")}  # rates of 0.3, 0.6, 0.9, 0.9


class Headed(Slope):
    """Two heads beside the encoder, with weights and biases of ones and a gradient of ones everywhere."""

    def __init__(self, rates=lambda ctx: {}):
        super().__init__()
        self.rates = rates
        self.head, self.heads = nn.Linear(2, 1), nn.ModuleList([nn.Linear(2, 1)])
        for parameter in [*self.head.parameters(), *self.heads.parameters()]:
            nn.init.ones_(parameter)

    def forward(self, views, group="main"):
        total = sum(p.sum() for p in [*self.head.parameters(), *self.heads.parameters()])
        return Loss(super().forward(views).value + total)


def after(rates, n=1, **recipe):
    """The parameters after n steps, by name; the two of a weight are equal."""
    taught = learner(Headed(rates), **recipe)
    learn(taught, n)
    return {name: p.detach().flatten()[0].item() for name, p in taught.pretext.named_parameters()}


def test_every_parameter_group_of_torch_gets_the_rate():
    """Biases do not decay, so they are in a group of their own."""
    taught = learner(Headed(), **WARM, weight_decay=0.1)
    assert len(taught.rated["main"].optimizer.param_groups) == 2
    assert after(lambda ctx: {}, **WARM)["head.bias"] == pytest.approx(1 - 0.3)


def test_at_a_rate_of_zero_nothing_moves_and_nothing_decays():
    moved = after(lambda ctx: {"head.": Rate(0.0)}, n=3, momentum=0.9, weight_decay=0.1)
    assert moved["head.weight"] == moved["head.bias"] == 1
    assert moved["heads.0.weight"] < moved["heads.0.bias"] < 1


def test_a_head_that_was_held_still_learns_from_then_on():
    moved = after(lambda ctx: {"head": Rate(0.0 if ctx.step < 2 else 1.0)}, n=3)
    assert moved["head.bias"] == moved["heads.0.bias"] == 1 - 0.5, "a prefix is of the name, so both are held"
    assert after(lambda ctx: {"head.": Rate(0.0 if ctx.step < 2 else 1.0)}, n=3)["heads.0.bias"] == 1 - 3 * 0.5


def test_a_constant_rate_ignores_the_schedule():
    rates = {"head.": Rate(constant=True), "heads.": Rate(0.5, constant=True)}
    moved = after(lambda ctx: rates, **WARM)
    assert moved["head.bias"] == pytest.approx(1 - 0.9)
    assert moved["heads.0.bias"] == pytest.approx(1 - 0.45)
    assert moved["encoder.weight"] == pytest.approx(1 - 0.3 * 2)


def test_factors_multiply_rate_and_decay():
    moved = after(lambda ctx: {"head.": Rate(0.1, decay=3.0), "heads.": Rate(decay=0.0)}, weight_decay=0.2)
    assert moved["head.weight"] == pytest.approx(1 - 0.05 * (1 + 0.6))
    assert moved["head.bias"] == pytest.approx(1 - 0.05), "biases do not decay"
    assert moved["heads.0.weight"] == pytest.approx(1 - 0.5)


def test_the_longest_prefix_counts():
    assert longest_prefix("head.weight", ["h", "head.", "head.b", ""]) == "head."
    assert longest_prefix("encoder.weight", ["h", "head."]) == ""
    moved = after(lambda ctx: {"head": Rate(0.0), "head.weight": Rate(0.5)})
    assert moved["head.weight"] == 1 - 0.25
    assert moved["head.bias"] == moved["heads.0.weight"] == 1


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_weight_decay_follows_a_cosine_to_its_last_step(start):
    """Also where it begins at 0: what it is meant for is told by the parameters."""
    taught = learner(Headed(), weight_decay=start, final_weight_decay=0.4, steps=5, lr=1e-9)
    seen = []
    for step in range(5):
        taught.step(step)
        seen.append([group["weight_decay"] for group in taught.rated["main"].optimizer.param_groups])
    cosine = [0.4 + (start - 0.4) * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
    assert [weights for weights, _ in seen] == pytest.approx(cosine)
    assert [rest for _, rest in seen] == [0.0] * 5, "biases do not decay"


def test_clipped_is_what_learns():
    """A held head's gradient is no part of the norm that is clipped, nor of the one that is logged."""
    taught = learner(Headed(lambda ctx: {"head": Rate(0.0)}), clip=1.0)
    values = learn(taught, measure_gradient=True)
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)
    assert torch.allclose(weights(taught), START - 0.5 * MEAN / 20**0.5, atol=1e-6)


def test_groups_are_cut_without_losing_a_parameter_or_an_option():
    pretext = Headed()
    named = list(pretext.named_parameters())
    recipe = SGD(batch_size=8, momentum=0.9, nesterov=True)
    cut = rated(recipe, named, ["head.", "heads."], recipe.settings(0, learner(pretext).length))
    groups = cut.optimizer.param_groups
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for _, p in named)
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in groups)
    assert list(zip(cut.prefixes, cut.decays, strict=True)) == [
        *(("head.", True), ("heads.", True)),
        *(("", False), ("head.", False), ("heads.", False)),
    ]
