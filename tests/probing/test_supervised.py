"""Supervised training: seeds, isolated generators, modes, rates, batches."""

import contextlib
import random
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from evaluator_toys import AUGMENT, EVERY, STRIPES, Small, stripes

from ssl_runner.contract import Features
from ssl_runner.probing import supervised


def settings(**changes):
    bank = stripes(40)
    rates = {"lr": 0.01, "head_lr": 0.05, "weight_decay": 0.0, "batch_size": 16, "augment": None, **changes}
    return supervised.Trained(every=EVERY, bank=bank, query=bank, classes=2, class_names=(), sample=STRIPES, **rates)


def train(encoder=None, steps=2, seed=0, after_epoch=None, **changes):
    given, encoder = settings(**changes), encoder or Small().eval()
    return supervised.train(encoder, given.bank, given, steps=steps, seed=seed, after_epoch=after_epoch)


def test_the_seed_alone_decides():
    a, b, c = (train(steps=3, seed=seed, augment=AUGMENT).state_dict() for seed in (0, 0, 1))
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a["encoder.conv.weight"], c["encoder.conv.weight"])


def test_global_generators_are_seeded_and_restored(monkeypatch):
    def draws():
        return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before, drawn = states(), []
    for seed in (5, 5, 2**62):
        with supervised.isolated_generators(seed):
            drawn.append(draws())
        assert states() == before
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[1], drawn[2], strict=True))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "mps", mps := Mock())  # a generator that torch does not fork
    with contextlib.suppress(FloatingPointError), supervised.isolated_generators(0):
        draws()
        raise FloatingPointError
    assert states() == before
    mps.set_rng_state.assert_called_once_with(mps.get_rng_state())


def test_a_copy_is_trained_also_of_an_encoder_that_is_frozen_as_a_whole():
    given = Small(5).eval()
    network = train(given, lr=1e-12, head_lr=1e-12)
    torch.testing.assert_close(network.encoder.conv.weight, given.conv.weight)
    assert network.encoder.conv.weight.data_ptr() != given.conv.weight.data_ptr()
    network = train(given.requires_grad_(False), lr=0.1)
    assert not torch.equal(network.encoder.conv.weight, given.conv.weight)
    assert not given.conv.weight.requires_grad


def test_an_encoder_of_another_scale_is_trained_alike():
    """Features times a thousand, plus a thousand: the classifier reads the same."""

    class Scaled(Small):
        def forward(self, x, keep=None):
            features = super().forward(x)
            return Features(features.pooled * 1000 + 1000, features.tokens, features.grid)

    networks = (train(kind(0, dropout=0.0).eval(), steps=5) for kind in (Small, Scaled))
    torch.testing.assert_close(*(each(stripes(32).x.float() / 255) for each in networks), atol=0.02, rtol=0.02)


def test_it_trains_in_training_mode_also_after_a_measurement(monkeypatch):
    """A measurement at the end of an epoch puts the network into eval mode; batch norm and dropout come back."""
    modes, forward, x = [], Small.forward, stripes(32).x
    monkeypatch.setattr(Small, "forward", lambda self, x: modes.append(self.norm.training) or forward(self, x))
    network = train(steps=4, after_epoch=lambda epoch, network: supervised.rank_classes(network, x))
    assert modes == [True] * 3 + [False] + [True] * 2 + [False]  # the first calibrates
    assert not any(module.training for module in network.modules())


def test_rates_rise_and_fall_the_classifier_has_its_own_and_biases_and_norms_do_not_decay():
    rates = [supervised.rate_factor(step, 10, 0.2) for step in range(10)]
    assert (*rates[:3], rates[6]) == pytest.approx((1 / 3, 2 / 3, 1, 0.5))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.1
    assert supervised.rate_factor(0, 1, 0.0) == supervised.rate_factor(0, 1, 0.1) == 1
    network = supervised.Network(Small(), STRIPES, 2)
    names = {id(p): name for name, p in network.named_parameters()}
    groups = supervised.parameter_groups(network, settings(lr=0.1, head_lr=0.2, weight_decay=0.3))
    assert [({names[id(p)] for p in each["params"]}, each["lr"], each["weight_decay"]) for each in groups] == [
        ({"encoder.conv.weight"}, 0.1, 0.3),
        ({"encoder.conv.bias", "encoder.norm.weight", "encoder.norm.bias"}, 0.1, 0.0),
        ({"linear.weight"}, 0.2, 0.3),
        ({"linear.bias"}, 0.2, 0.0),
    ]


def test_no_batch_is_larger_than_asked(monkeypatch):
    """Neither in training nor when a large query is ranked; each row is seen once an epoch."""
    bank, seen, original = stripes(40), [], supervised.Network.read
    monkeypatch.setattr(supervised, "AT_ONCE", 7)
    monkeypatch.setattr(supervised.Network, "read", lambda *args: seen.append(args[2].tolist()) or original(*args))
    network = train(steps=4)
    assert [len(each) for each in seen] == [16] * 4
    assert len({*seen[0], *seen[1]}) == len({*seen[2], *seen[3]}) == 32
    assert seen[0] != seen[2]
    seen.clear()
    parts, _ = supervised.rank_classes(network, bank.x)
    assert max(map(len, seen)) == 7
    monkeypatch.setattr(supervised, "AT_ONCE", 40)
    assert torch.equal(supervised.rank_classes(network, bank.x)[0], parts)
