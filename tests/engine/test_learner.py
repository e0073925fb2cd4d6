"""One step, against what a hand computes: toys whose gradient is the mean of their rows."""

import copy
import itertools

import pytest
import torch
from engine_toys import MEAN, START, Pull, Rivals, Slope, learn, learner, weights
from torch import Tensor, nn

from ssl_runner.contract import Loss
from ssl_runner.duration import Duration
from ssl_runner.engine.learner import main_group
from ssl_runner.optimizer.adamw import AdamW

ORDERS = pytest.mark.parametrize("order", [("rival", "own"), ("own", "rival")])


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.detach(), b, rtol=1e-6, atol=1e-6)


@ORDERS
def test_each_group_follows_its_own_loss_alone(order):
    pretext = Rivals(order)
    w, u = START, torch.tensor([5.0, -1.0])
    learn(learner(pretext, lr=0.01), 3)
    for _, group in itertools.product(range(3), order):  # the second group sees what the first has done
        if group == "own":
            w = w - 0.01 * MEAN * u
        else:
            u = u + 0.01 * 3 * MEAN * w
    assert close(pretext.encoder.weight, w)
    assert close(pretext.rival, u)


def test_numbers_of_two_groups_are_logged_apart():
    f = 2 * 5 * 1 + 4 * -1 * 2  # the mean row times both weights
    expected = {"train/own_loss": f, "train/own_twice": 2 * f, "optimizer/own_gradient_norm": (10**2 + 4**2) ** 0.5}
    expected |= {"train/rival_loss": -3 * f, "train/rival_twice": -6 * f}
    expected |= {"optimizer/rival_gradient_norm": 3 * (2**2 + 8**2) ** 0.5}
    assert learn(learner(Rivals(("own", "rival")), lr=1e-30), measure_gradient=True) == pytest.approx(expected)
    assert learn(learner(Slope())).keys() == {"train/loss", "train/largest"}, "no prefix where there is one group"


@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_micro_batches_are_one_step(accumulate):
    taught = learner(Slope(), accumulate=accumulate)
    values = learn(taught, 2, measure_gradient=True)
    assert close(weights(taught), START - 2 * 0.5 * MEAN)
    assert values["train/loss"] == pytest.approx((2 * 1 + 4 * 2 + 0) / 2), "after the first step the weights are 0"
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)


def test_a_micro_batch_weighs_the_regulariser_by_its_share():
    taught = learner(Slope(), accumulate=4, regulariser=Pull())
    values = learn(taught)
    assert close(weights(taught), START - 0.5 * (MEAN + 10))
    assert values["regulariser/pull"] == pytest.approx(30)
    assert values["train/loss"] == pytest.approx(10), "the loss is logged without its regulariser"


def test_the_rate_of_each_step_is_the_one_that_is_used():
    """A warm-up of two steps to 0.9 and then half a cosine over two: 0.3, 0.6, 0.9, 0.45."""
    taught, weight = learner(Slope(), lr=0.9, warm_up=Duration(2.0, "st"), schedule="cosine"), START
    for step, rate in enumerate((0.3, 0.6, 0.9, 0.45)):
        taught.step(step)
        weight = weight - rate * MEAN
        assert close(weights(taught), weight), f"step {step}"
        assert taught.settings(step).lr == pytest.approx(rate)


@ORDERS
def test_the_regulariser_is_the_main_groups_alone(order):
    plain, pulled = Rivals(order), Rivals(order)
    learn(learner(plain, lr=0.01))
    values = learn(learner(pulled, lr=0.01, regulariser=Pull()))
    assert main_group(pulled) == "own"
    assert "regulariser/pull" in values
    assert close(pulled.encoder.weight - plain.encoder.weight, torch.full((2,), -0.01 * 10))
    if order == ("rival", "own"):
        assert close(pulled.rival, plain.rival.detach())
    else:  # the rival steps after the encoder, by the gradient at the encoder's new place and no more
        assert close(pulled.rival, torch.tensor([5.0, -1.0]) + 0.03 * MEAN * pulled.encoder.weight.detach())


@pytest.mark.parametrize(("clip", "size"), [(1.0, 1.0), (100.0, 20**0.5), (None, 20**0.5)])
def test_clip_bounds_the_step_and_the_log_has_the_norm_before(clip, size):
    taught = learner(Slope(), clip=clip)
    values = learn(taught, measure_gradient=True)
    assert float((weights(taught) - START).norm()) == pytest.approx(0.5 * size, rel=1e-5)
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)


class Several(Slope):
    """Two parameters beside the encoder's, whose gradients have norms of 6 and 0.5."""

    def __init__(self):
        super().__init__()
        self.large, self.small = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))

    def forward(self, views, group="main"):
        return Loss(super().forward(views).value + 3 * self.large.sum() + 0.5 * self.small.sum())


@pytest.mark.parametrize("clip", [None, 1.0])
def test_clip_each_bounds_every_tensor_by_itself_and_before_clip(clip):
    pretext = Several()
    learn(learner(pretext, clip_each=2.0, clip=clip, lr=1.0))
    moved = [START - pretext.encoder.weight, 1 - pretext.large, 1 - pretext.small]
    share = 1.0 if clip is None else clip / (2**2 + 2**2 + 0.5**2) ** 0.5
    assert [float(each.detach().norm()) for each in moved] == pytest.approx(
        [2 * share, 2 * share, 0.5 * share], rel=1e-5
    )


@pytest.mark.parametrize("clip", [None, 1.0])
def test_fp16_unscales_before_it_clips(clip):
    taught = learner(Slope(), precision="fp16", clip=clip)
    assert taught.scalers["main"].get_scale() > 1000
    values = learn(taught, measure_gradient=True)
    assert close(weights(taught) - START, -0.5 * MEAN / (20**0.5 if clip else 1))
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)
    assert values["train/loss"] == pytest.approx(10), "the loss is logged unscaled"


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
    for each in (taught, resumed):
        learn(each)
    assert torch.equal(weights(taught), weights(resumed))


def test_fp16_skips_a_step_that_overflows_and_halves_its_scale():
    class Steep(Slope):
        def forward(self, views, group="main"):
            return Loss(1e36 * super().forward(views).value)  # times 65536 it is beyond float32

    taught = learner(Steep(), precision="fp16")
    scale = taught.scalers["main"].get_scale()
    learn(taught)
    assert torch.equal(weights(taught), START)
    assert taught.scalers["main"].get_scale() == scale / 2
    assert taught.is_finite()


def test_numbers_leave_a_step_in_float32_and_without_a_graph():
    """In bf16, 256 + 1 is 256, and a window sums over many steps."""

    class Half(Slope):
        def forward(self, views, group="main"):
            value = super().forward(views).value
            return Loss(value, {"half": value.bfloat16()})

    numbers = learner(Half(), accumulate=2, regulariser=Pull()).step(0, measure_gradient=True)
    assert numbers.keys() == {"train/loss", "train/half", "regulariser/pull", "optimizer/gradient_norm"}
    assert not any(value.requires_grad or value.dtype != torch.float32 for value in numbers.values())
