"""Resuming from any step ends in bit-identical tensors; what would break that is planted here and must be seen."""

import copy
import random
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import in_turn, names
from torch import nn

from ssl_runner.contract import Loss, Pretext
from ssl_runner.engine.loader import Loader
from ssl_runner.testing.promises import resume_differences

RUNS = {  # overrides, and the turns after which the run is stopped; micro-batches: at the edges of epochs
    **{f"pretext {name}": ([name], None) for name in names("pretext")},
    **{f"optimizer {name}": (["rotation", f"optimizer={name}"], [(7,)]) for name in names("optimizer")},
    "micro-batches": (["simclr", "accumulate=2", "optimizer.clip=0.5"], [(1,), (4,), (5,), (6,), (11,)]),
    "challenges": (["simclr", "dataset.corrupt=mixed", "dataset.missing=0.2", "dataset.subset=0.7"], [(7,)]),
    "twice": (["byol"], [(3, 4)]),
    "toy": (["toy"], [(7,)]),
}


@pytest.fixture
def differences(make):
    """Paths of the states in which a run that is evaluated, stopped and resumed differs from one that is not."""

    def compare(pretext, *overrides, stops=((7,),)):
        words = overrides if pretext == "toy" else (f"pretext={pretext}", *overrides)
        change = (lambda _: SimpleNamespace(build=Toy)) if pretext == "toy" else (lambda node: node)
        whole = partial(make, *words, "evaluator=none", change=change)
        part = partial(make, *words, change=change)
        return resume_differences(lambda name: whole(folder=name), lambda name: part(folder=name), stops)

    return compare


class Toy(Pretext):
    """Pulls dropped-out features towards those of earlier batches, kept in a queue."""

    def __init__(self, encoder, **_):
        super().__init__()
        self.encoder, self.dropout, self.norm = encoder, nn.Dropout(0.5), nn.BatchNorm1d(encoder.dim)
        self.queue = nn.Buffer(torch.zeros(encoder.dim))

    def views(self, batch, ctx):
        return (batch.x + 0.1 * ctx.rng.randn(*batch.x.shape),)

    def forward(self, views, group="main"):
        pooled = self.norm(self.encoder(views[0]).pooled)
        value = (self.dropout(pooled) - self.queue - 1).square().mean()
        return Loss(value, {}, pooled, {"seen": pooled.detach()})

    def after_step(self, ctx, kept):
        self.queue.mul_(0.5).add_(kept["seen"].mean(0), alpha=0.5)


@pytest.mark.parametrize("case", in_turn(RUNS))
def test_a_run_resumes_bit_exactly(differences, case):
    words, stops = RUNS[case]
    assert not differences(*words, stops=stops or [(random.SystemRandom().randrange(1, 12),)])


def restarted(self, step, index=Loader.index):
    self.first = getattr(self, "first", step)
    return index(self, step - self.first)


def left_in_eval(module):
    module.eval()
    return torch.no_grad()


BUGS = {  # what is put in the place of what, and the pretext task that shows it
    "a queue as a plain attribute": ("torch.nn.Buffer", lambda tensor: tensor, "toy"),
    "no reseeding": ("ssl_runner.engine.learner.seed_everything", lambda *_: None, "toy"),
    "unsaved optimizers": ("torch.optim.Optimizer.load_state_dict", lambda *_: None, "toy"),
    "a shuffle that starts again": ("ssl_runner.engine.loader.Loader.index", restarted, "toy"),
    "eval mode left on": ("ssl_runner.engine.measurements.frozen", left_in_eval, "rotation"),  # it has batch norm
    "gradients left between groups": ("ssl_runner.contract.Pretext.zero_grad", lambda *_, **__: None, "bigan"),
}


@pytest.mark.parametrize(("place", "change", "pretext"), BUGS.values(), ids=BUGS)
def test_what_breaks_resuming_is_seen(differences, place, change, pretext, monkeypatch):
    monkeypatch.setattr(place, change)
    assert differences(pretext)


def test_another_memory_format_goes_on_to_the_same_weights(make):
    """A fused optimizer reads a parameter and its moments side by side, in the order in which they lie in memory."""
    one, other = (make(f"device.channels_last={each}", folder=each).learner for each in ("true", "false"))
    for step in range(3):
        one.step(step)
    other.load(copy.deepcopy(one.state()))
    for step in range(3, 6):
        one.step(step)
        other.step(step)
    for name, weight in one.pretext.state_dict().items():
        torch.testing.assert_close(other.pretext.state_dict()[name], weight, rtol=1e-3, atol=1e-4, msg=name)
