"""What a step calls, draws and keeps, in which order; and that it waits for nothing."""

import pytest
import torch
from engine_toys import Pull, Rivals, Slope, learn, learner
from torch import Tensor


class Witness(Rivals):
    """Writes down each call, whether gradients were on, and a number drawn from the generator it was given."""

    def __init__(self):
        super().__init__()
        self.calls, self.drawn, self.kept = [], [], []

    def note(self, what, ctx, *more):
        self.calls.append((what, torch.is_grad_enabled(), *more))
        if ctx is not None:
            self.drawn.append(float(torch.rand((), generator=ctx.rng)))

    def views(self, batch, ctx):
        self.note("views", ctx, ctx.step)
        return batch.x, batch.index

    def forward(self, views, group="main"):
        self.note("forward", None, group)
        loss = super().forward(views, group)
        return loss._replace(kept={f"rows of {group}": views[1][:, None] * torch.ones(1, requires_grad=True)})

    def before_step(self, ctx):
        self.note("before_step", ctx, ctx.step)

    def after_step(self, ctx, kept):
        self.note("after_step", ctx, ctx.step)
        self.kept.append(kept)


def test_a_step_calls_in_the_order_of_the_contract():
    pretext = Witness()
    learn(learner(pretext, accumulate=2, lr=1e-3), 2)
    expected = []
    for step in range(2):
        expected.append(("before_step", False, step))
        for group in ("rival", "own"):
            expected += [("views", False, step), ("forward", True, group)] * 2
        expected.append(("after_step", False, step))
    assert pretext.calls == expected


@pytest.mark.parametrize("accumulate", [1, 4])
def test_kept_rows_arrive_in_the_order_of_the_batch(accumulate):
    """Those of all micro-batches, by name, without a graph; and of this step alone."""
    pretext = Witness()
    taught = learner(pretext, accumulate=accumulate, lr=1e-3)
    learn(taught, 2)
    for step, kept in enumerate(pretext.kept):
        assert kept.keys() == {"rows of rival", "rows of own"}
        for rows in kept.values():
            assert rows[:, 0].tolist() == taught.loader.index(step).tolist()
            assert not rows.requires_grad


def test_every_place_draws_its_own_numbers_and_the_same_place_the_same():
    first, second, other, again = Witness(), Witness(), Witness(), Witness()
    for pretext, seed in ((first, 0), (second, 0), (other, 1)):
        learn(learner(pretext, accumulate=2, lr=1e-3, seed=seed), 3)
    assert len(first.drawn) == 3 * (1 + 2 * 2 + 1)
    assert len(set(first.drawn)) == len(first.drawn), "hooks, groups, micro-batches and steps"
    assert first.drawn == second.drawn
    assert not set(first.drawn) & set(other.drawn), "another seed"
    taught = learner(again, accumulate=2, lr=1e-3)
    taught.views(taught.loader.batches(2)[1], 2, "own", 1)
    assert again.drawn == first.drawn[16:17], "the last view of step 2, drawn out of turn"


def test_the_global_generators_are_seeded_by_the_step():
    class Dropped(Slope):
        def forward(self, views, group="main"):
            self.seen = torch.rand(3)
            return super().forward(views, group)

    taught, seen = learner(Dropped()), []
    for step in (0, 1, 0):
        torch.rand(7)
        taught.step(step)
        seen.append(taught.pretext.seen)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


# Waiting for the device

WAITING = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero")


@pytest.mark.parametrize("kind", [{}, {"accumulate": 2}, {"clip": 1.0, "clip_each": 1.0}, {"regulariser": Pull()}])
def test_a_step_waits_for_nothing(kind, monkeypatch):
    def waits(self, *_, **__):
        raise AssertionError("a step waited for the device")

    taught = learner(Rivals(), lr=1e-3, momentum=0.9, **kind)
    taught.step(0)
    for name in WAITING:
        monkeypatch.setattr(Tensor, name, waits)
    taught.step(1)
    taught.step(2, measure_gradient=True)
    with pytest.raises(AssertionError, match="waited"):
        taught.is_finite()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_on_cuda_waits_for_nothing(precision):
    taught = learner(Rivals(), device="cuda", precision=precision, lr=1e-3, batch_size=2)
    taught.step(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (1, 2, 3):
            taught.step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
