"""Resuming from any step ends in bit-identical tensors; what would break that is planted here and must be seen."""

import contextlib
import random
from collections.abc import Mapping

import pytest
import torch
from conftest import names
from engine_toys import fit
from torch import Tensor, nn

from ssl_runner.contract import Loss, Pretext
from ssl_runner.engine import learner as learner_module
from ssl_runner.engine import measurements as measure_module
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader


def differing(a, b, at=""):
    """Where two states differ by a bit."""
    if isinstance(a, Tensor):
        return [] if isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b) else [at]
    if isinstance(a, Mapping):
        return [x for k in {*a, *b} for x in differing(a.get(k), b.get(k), f"{at}/{k}")]
    if isinstance(a, list | tuple):
        return [x for i, (u, v) in enumerate(zip(a, b, strict=True)) for x in differing(u, v, f"{at}/{i}")]
    return [] if a == b else [at]


def resumed_differs(make, *overrides, stops, change=None):
    """One run to its end with no evaluation; the same with evaluations, stopped after some turns of the loop, and gone
    on with. Where they differ."""
    whole = fit(make(*overrides, "evaluator=none", folder="whole", change=change))
    for turns in (*stops, float("inf")):
        parts = fit(make(*overrides, folder="parts", change=change), turns)
    return differing(whole.learner.state(), parts.learner.state())


@pytest.mark.parametrize("pretext", names("pretext"))
def test_every_pretext_resumes_bit_exactly(make, pretext):
    stop = random.SystemRandom().randrange(1, 12)
    assert not resumed_differs(make, f"pretext={pretext}", stops=[stop]), f"stopped at step {stop}"


@pytest.mark.parametrize("optimizer", names("optimizer"))
def test_every_optimizer_resumes_bit_exactly(make, optimizer):
    assert not resumed_differs(make, "pretext=rotation", f"optimizer={optimizer}", stops=[7])


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 11])
def test_resume_at_the_edges_of_an_epoch_with_micro_batches(make, stop):
    assert not resumed_differs(make, "pretext=simclr", "accumulate=2", "optimizer.clip=0.5", stops=[stop])


def test_resume_twice(make):
    assert not resumed_differs(make, "pretext=byol", stops=[3, 4])


def test_two_seeds_differ(make):
    """The comparison itself can tell runs apart."""
    one, two = (fit(make("pretext=rotation", f"seed={seed}", folder=str(seed))) for seed in (0, 1))
    assert differing(one.learner.state()["pretext"], two.learner.state()["pretext"])


# Planted bugs, each of which the comparison above must see


class Toy(Pretext):
    """Pulls dropped-out features towards those of earlier batches, kept in a queue."""

    def __init__(self, encoder, *, buffer):
        super().__init__()
        self.encoder, self.dropout, self.norm = encoder, nn.Dropout(0.5), nn.BatchNorm1d(encoder.dim)
        if buffer:
            self.register_buffer("queue", torch.zeros(encoder.dim))
        else:
            self.queue = torch.zeros(encoder.dim)

    def views(self, batch, ctx):
        return (batch.x + 0.1 * torch.randn(batch.x.shape, generator=ctx.rng),)

    def forward(self, views, group="main"):
        pooled = self.norm(self.encoder(views[0]).pooled)
        value = (self.dropout(pooled) - self.queue - 1).square().mean()
        return Loss(value, {}, pooled, {"seen": pooled.detach()})

    def after_step(self, ctx, kept):
        self.queue.mul_(0.5).add_(kept["seen"].mean(0), alpha=0.5)


class ToyNode:
    def __init__(self, buffer):
        self.buffer = buffer

    def build(self, encoder, **_):
        return Toy(encoder, buffer=self.buffer)


def toy_differs(make, *, buffer=True):
    return resumed_differs(make, "pretext=rotation", stops=[7], change=lambda _: ToyNode(buffer))


def test_the_toy_without_a_bug_resumes(make):
    assert not toy_differs(make)


def test_a_queue_as_a_plain_attribute_is_seen(make):
    assert toy_differs(make, buffer=False)


def test_missing_reseeding_is_seen(make, monkeypatch):
    monkeypatch.setattr(learner_module, "seed_everything", lambda *_: None)
    assert toy_differs(make)


def test_unsaved_optimizer_state_is_seen(make, monkeypatch):
    monkeypatch.setattr(Learner, "load", lambda self, state: self.pretext.load_state_dict(state["pretext"]))
    assert toy_differs(make)


def test_a_restarted_shuffle_is_seen(make, monkeypatch):
    index = Loader.index

    def from_zero(self, step):
        self.first = getattr(self, "first", step)
        return index(self, step - self.first)

    monkeypatch.setattr(Loader, "index", from_zero)
    assert toy_differs(make)


def test_eval_mode_left_on_is_seen(make, monkeypatch):
    @contextlib.contextmanager
    def leave(module):
        module.eval()
        with torch.no_grad():
            yield

    monkeypatch.setattr(measure_module, "frozen", leave)
    assert resumed_differs(make, "pretext=rotation", stops=[7])  # convnet_small has batch norm


def test_gradients_left_between_groups_are_seen(make, monkeypatch):
    monkeypatch.setattr(Pretext, "zero_grad", lambda self, set_to_none=True: None)
    assert resumed_differs(make, "pretext=bigan", stops=[7])
