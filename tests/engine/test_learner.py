"""One step, against what a hand computes: toys whose gradient is the mean of their rows."""

import copy
import functools
import itertools
from unittest.mock import Mock

import pytest
import torch
from engine_toys import MEAN, START, Pull, Rivals, Slope, learn, learner, weights
from torch import Tensor, nn

from ssl_runner.contract import Loss
from ssl_runner.duration import Duration
from ssl_runner.engine.collapse import measure_embedding
from ssl_runner.engine.learner import main_group
from ssl_runner.optimizer.adamw import AdamW

NORM = 20**0.5  # of the gradient of Slope
WAITING = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero")
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pull", [0, 10])
@pytest.mark.parametrize("order", [("rival", "own"), ("own", "rival")])
def test_each_group_follows_its_own_loss_alone_and_the_main_one_the_regulariser(order, pull):
    pretext, w, u = Rivals(order), START, torch.tensor([5.0, -1.0])
    values = learn(learner(pretext, lr=0.01, regulariser=Pull() if pull else None), 3)
    for _, group in itertools.product(range(3), order):  # the second group sees what the first has done
        if group == "own":
            w = w - 0.01 * (MEAN * u + pull)
        else:
            u = u + 0.01 * 3 * MEAN * w
    assert_close([pretext.encoder.weight.data, pretext.rival.data], [w, u])
    assert main_group(pretext) == "own"
    assert ("regulariser/pull" in values) == bool(pull)


def test_numbers_of_two_groups_are_logged_apart():
    f = 2 * 5 * 1 + 4 * -1 * 2  # the mean row times both weights
    expected = {"train/own_loss": f, "train/own_twice": 2 * f, "optimizer/own_gradient_norm": (10**2 + 4**2) ** 0.5}
    expected |= {"train/rival_loss": -3 * f, "train/rival_twice": -6 * f}
    expected |= {"optimizer/rival_gradient_norm": 3 * (2**2 + 8**2) ** 0.5}
    assert learn(learner(Rivals(("own", "rival")), lr=1e-30), measure_gradient=True) == pytest.approx(expected)
    assert learn(learner(Slope())).keys() == {"train/loss", "train/largest"}, "no prefix if there is one group"


@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_micro_batches_are_one_step(accumulate):
    """Two steps by the gradient MEAN + 10: weights of 1, 2, then of -5, -5. The loss is logged without the term."""
    taught = learner(Slope(), accumulate=accumulate, regulariser=Pull())
    values = learn(taught, 2, measure_gradient=True)
    assert_close(weights(taught), START - 2 * 0.5 * (MEAN + 10))
    expected = {"train/loss": ((2 * 1 + 4 * 2) + (2 * -5 + 4 * -5)) / 2, "regulariser/pull": (10 * 3 + 10 * -10) / 2}
    expected |= {"optimizer/gradient_norm": (12**2 + 14**2) ** 0.5, "train/largest": values["train/largest"]}
    assert values == pytest.approx(expected)


def test_the_rate_of_each_step_is_the_one_that_is_used():
    """A warm-up of two steps to 0.9 and then half a cosine over two: 0.3, 0.6, 0.9, 0.45."""
    taught, weight = learner(Slope(), lr=0.9, warm_up=Duration(2.0, "st"), schedule="cosine"), START
    for step, rate in enumerate((0.3, 0.6, 0.9, 0.45)):
        taught.step(step)
        weight = weight - rate * MEAN
        assert_close(weights(taught), weight)
        assert taught.settings(step).lr == pytest.approx(rate)


def test_only_steps_stand_still_for_data():
    """What is read to measure or to show is no wait of training, whose log would tell of too much."""
    taught = learner(Slope())
    measure_embedding(taught)
    taught.look(0)
    assert taught.waited == 0
    taught.step(0)
    assert taught.waited > 0


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize(("clip", "size"), [(1.0, 1.0), (100.0, NORM), (None, NORM)])
def test_clip_bounds_the_step_and_the_log_has_the_norm_before(clip, size, precision):
    """In fp16 as well, whose loss and gradient are scaled until then."""
    taught = learner(Slope(), clip=clip, precision=precision)
    assert (taught.optimizers["main"].scaler.get_scale() > 1000) == (precision == "fp16")
    values = learn(taught, measure_gradient=True)
    assert_close(weights(taught) - START, -0.5 * MEAN * size / NORM)
    assert (values["optimizer/gradient_norm"], values["train/loss"]) == pytest.approx((NORM, 10))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_clip_each_bounds_every_tensor_by_itself_and_before_clip(clip):
    """Two parameters beside the encoder's have gradients of norms 6 and 0.5."""
    pretext = Slope(lambda loss: Loss(loss.value + 3 * pretext.large.sum() + 0.5 * pretext.small.sum()))
    pretext.large, pretext.small = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))
    learn(learner(pretext, clip_each=2.0, clip=clip, lr=1.0))
    moved = START - pretext.encoder.weight, 1 - pretext.large, 1 - pretext.small
    share = 1.0 if clip is None else clip / (2**2 + 2**2 + 0.5**2) ** 0.5
    assert [each.norm().item() for each in moved] == pytest.approx([2 * share, 2 * share, 0.5 * share], rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_state_of_other_kernels_goes_on_by_its_own(precision):
    """A checkpoint of a machine, or a version, whose optimizer was not fused."""
    recipe = AdamW(batch_size=8, lr=0.1, schedule="constant", warm_up=Duration(0.0, "st"))
    taught, resumed = (learner(Slope(), optimizer=recipe, precision=precision) for _ in range(2))
    learn(taught)
    state = copy.deepcopy(taught.state())
    for group in state["optimizers"]["main"]["param_groups"]:
        group["fused"] = None
    resumed.load(state)
    assert learn(taught) == learn(resumed)
    assert torch.equal(weights(taught), weights(resumed))


def test_fp16_skips_a_step_that_overflows_and_halves_its_scale():
    steep = Slope(lambda loss: Loss(1e36 * loss.value))  # times 65536 it is beyond float32
    taught = learner(steep, precision="fp16")
    scale = taught.optimizers["main"].scaler.get_scale()
    learn(taught)
    assert torch.equal(weights(taught), START)
    assert taught.optimizers["main"].scaler.get_scale() == scale / 2
    assert taught.is_finite()


def test_numbers_leave_a_step_in_float32_and_without_a_graph():
    """In bf16, 256 + 1 is 256, and a window sums over many steps."""
    half = Slope(lambda loss: Loss(loss.value, {"half": loss.value.bfloat16()}))
    numbers = learner(half, accumulate=2, regulariser=Pull()).step(0, measure_gradient=True)
    assert numbers.keys() == {"train/loss", "train/half", "regulariser/pull", "optimizer/gradient_norm"}
    assert not any(value.requires_grad or value.dtype != torch.float32 for value in numbers.values())


class Sweeper(Slope):
    """Normalises the training set by its own mean and deviation before each step."""

    def __init__(self):
        super().__init__()
        self.encoder.norm, self.swept = nn.BatchNorm1d(2), []

    def before_step(self, ctx):
        self.swept.append(torch.cat([self.encoder.norm(batch.x) for batch in ctx.sweep()]))


def test_a_sweep_in_training_mode_leaves_no_trace_in_running_statistics():
    task = Sweeper()
    before = copy.deepcopy(task.encoder.norm.state_dict())
    learn(learner(task), 1)
    assert_close(task.swept[0].mean(0), torch.zeros(2))
    assert_close(task.encoder.norm.state_dict(), before)
    for batch in learner(task).sweep():
        task.encoder.norm(batch.x)
        break  # as a method that has seen enough
    assert_close(task.encoder.norm.state_dict(), before)


class Witness(Rivals):
    """Writes down each call, whether gradients were on, and a number drawn from the generator it was given."""

    def __init__(self):
        super().__init__()
        self.calls, self.drawn, self.kept = [], [], []

    def note(self, what, ctx, samples=1):
        self.calls.append((what, torch.is_grad_enabled(), ctx.step))
        self.drawn.append(float(ctx.rng.rand(samples)[0]))

    def views(self, batch, ctx):
        self.note("views", ctx, len(batch.x))
        return batch.x, batch.index

    def forward(self, views, group="main"):
        self.calls.append(("forward", torch.is_grad_enabled(), group))
        kept = {f"rows of {group}": views[1][:, None] * torch.ones(1, requires_grad=True)}
        return super().forward(views, group)._replace(kept=kept)

    def before_step(self, ctx):
        self.note("before_step", ctx)

    def after_step(self, ctx, kept):
        self.note("after_step", ctx)
        self.kept.append(kept)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_step_calls_in_the_order_of_the_contract_and_keeps_rows_in_that_of_the_batch(accumulate):
    """Rows of all micro-batches, by name, without a graph; and of this step alone."""
    pretext = Witness()
    taught = learner(pretext, accumulate=accumulate, lr=1e-3)
    learn(taught, 2)
    expected = []
    for step in range(2):
        expected.append(("before_step", False, step))
        for group in ("rival", "own"):
            expected += [("views", False, step), ("forward", True, group)] * accumulate
        expected.append(("after_step", False, step))
        kept = pretext.kept[step]
        assert kept.keys() == {"rows of rival", "rows of own"}
        assert all(rows[:, 0].tolist() == taught.loader.index(step).tolist() for rows in kept.values())
        assert not any(rows.requires_grad for rows in kept.values())
    assert pretext.calls == expected


def test_every_place_draws_its_own_numbers_and_the_same_place_the_same():
    first, second, other, again = (learner(Witness(), accumulate=2, lr=1e-3, seed=seed) for seed in (0, 0, 1, 0))
    for each in (first, second, other):
        learn(each, 3)
    drawn = first.pretext.drawn
    assert len(set(drawn)) == len(drawn) == 3 * (1 + 2 * 2 + 1), "hooks, groups, micro-batches and steps"
    assert drawn == second.pretext.drawn
    assert set(drawn).isdisjoint(other.pretext.drawn), "another seed"
    again.views(again.loader.batches(2)[1], 2, "own", 1)
    assert again.pretext.drawn == drawn[16:17], "the last view of step 2, drawn out of turn"


@pytest.mark.parametrize("kind", [{}, {"accumulate": 2, "clip": 1.0, "clip_each": 1.0, "regulariser": Pull()}])
def test_a_step_waits_for_nothing(kind, monkeypatch):
    taught = learner(Rivals(), lr=1e-3, momentum=0.9, **kind)
    taught.step(0)
    for name in WAITING:
        monkeypatch.setattr(Tensor, name, Mock(side_effect=AssertionError("a step waited for the device")))
    taught.step(1)
    taught.step(2, measure_gradient=True)
    with pytest.raises(AssertionError, match="waited"):
        taught.is_finite()
