"""Views and forward passes on another device, without one: fake tensors refuse what mixes devices, or waits for one.

A number that is made on the CPU, or drawn there, is found here and not on the first GPU.
"""

import pytest
import torch
from conftest import names
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)

from ssl_runner.contract import Batch, Context
from ssl_runner.duration import Length
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.regulariser.variance import Variance


class Drawn(torch.Generator):
    """A generator that says it is on a GPU; fake tensors do not ask it for numbers."""

    device = property(lambda self: torch.device("cuda"))


def move(module):
    """Puts every parameter and buffer on the GPU, without values."""
    for each in module.modules():
        for name, p in each.named_parameters(recurse=False):
            each.register_parameter(name, nn.Parameter(torch.empty_like(p, device="cuda"), p.requires_grad))
        for name, b in each.named_buffers(recurse=False):
            setattr(each, name, torch.empty_like(b, device="cuda"))


@pytest.fixture
def step(method):
    """Hooks, views, forward passes and regulariser of a task, a group after the other, all on the GPU."""

    def run(name):
        pretext, shape = method(name), (4, 3, 32, 32)
        with FakeTensorMode(allow_non_fake_inputs=True):
            move(pretext)
            batch = Batch(torch.rand(shape, device="cuda"), torch.arange(4, device="cuda"))
            ctx, kept = Context(3, Length(12, 5, 4), Drawn(), lambda: iter([batch])), {}
            with torch.no_grad():
                pretext.before_step(ctx)
            for group in pretext.groups():
                with torch.no_grad():
                    views = pretext.views(batch, ctx)
                loss = pretext(views, group)
                terms = [] if loss.embedding is None else Variance()(loss, pretext).values()
                made = [*views, loss.value, *loss.metrics.values(), *loss.kept.values(), *terms]
                assert {each.device.type for each in made} == {"cuda"}
                kept |= loss.kept
            with torch.no_grad():
                pretext.after_step(ctx, kept)

    return run


@pytest.mark.parametrize("name", names("pretext"))
def test_a_task_stays_on_its_device(step, name):
    step(name)


BUGS = {
    "drawn": (lambda x, ctx: x + torch.rand(x.shape, generator=ctx.rng), FakeTensorDeviceMismatchError),
    "made": (lambda x, ctx: x * torch.linspace(0, 1, x.shape[-1]), FakeTensorDeviceMismatchError),
    "read": (lambda x, ctx: x / x.max().item(), DataDependentOutputException),
}


@pytest.mark.parametrize(("bug", "error"), BUGS.values(), ids=BUGS)
def test_what_is_planted_is_seen(step, bug, error, monkeypatch):
    views = SimCLR.views
    monkeypatch.setattr(SimCLR, "views", lambda self, b, ctx: views(self, Batch(bug(b.x, ctx), b.index), ctx))
    with pytest.raises(error):
        step("simclr")
