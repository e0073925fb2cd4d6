"""Optimizers: what decays, what a step is, the rates of a whole run, and that all state is in the state_dict."""

import io
import math

import pytest
import timm.optim.muon
import torch
from conftest import names
from torch import nn
from toys import choice

from ssl_runner.duration import Duration, Length
from ssl_runner.layers.weights import is_weight
from ssl_runner.layers.word_encoder import WordEncoder
from ssl_runner.optimizer.lars import LARS
from ssl_runner.optimizer.recipe import cosine, split
from ssl_runner.optimizer.sgd import SGD

every = pytest.mark.parametrize("name", names("optimizer"))
WEIGHTS = {"convolution.weight", "head.weight", "thin.weight"}
NONE, ROOT, SHORT = Duration(0.0, "st"), math.sqrt(0.5), Length(10, 5, 4)


def recipe(name, **changed):
    kind, values, _ = choice("optimizer", name)
    return kind(**{"batch_size": 256, **values, **changed})


class Net(nn.Module):
    """Weights of several shapes beside everything that must not decay."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.randn(5, 8))
        self.convolution = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 6)
        self.thin = nn.Linear(8, 2)
        nn.init.normal_(self.norm.weight)

    def loss(self, x):
        h = self.norm(self.convolution(x)).relu().mean((2, 3)) + self.class_token[0] + self.pos_embed.mean(0)
        return (self.head(h).square().mean() - 1) ** 2 + self.thin(h).sin().mean()


def train(loss, optimizer, rule, steps, start=0, length=SHORT):
    """As the trainer does: the rate of all groups from the step, data from the step."""
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = rule.rate(step, length)
        loss(torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def begun(name, **changed):
    """A net, its recipe, its optimizer, and its weights as they are now."""
    net, rule = Net(), recipe(name, **changed)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    return net, rule, rule.build(list(net.named_parameters())), before


def moved(net, before):
    return {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}


def test_weights_decay_and_the_rest_does_not():
    named = dict(Net().named_parameters())
    assert {name for name, p in named.items() if is_weight(name, p)} == WEIGHTS
    weight, bias = ("w", nn.Parameter(torch.ones(2, 2))), ("b", nn.Parameter(torch.ones(2)))
    # A head that tells positions has weights like any other.
    kinds = [is_weight(name, weight[1]) for name in ("position.weight", "classifier", "decoder.mask_token")]
    assert kinds == [True, True, False]
    # Encoders name theirs: positions of a sequence, and timm's gains, scales of layers and biases of attention.
    shapes = {"places": (9, 8), "attention_biases": (4, 9), "rel_height": (9, 8), "gain": (8, 1, 1, 1)}
    assert not any(is_weight(f"encoder.{name}", nn.Parameter(torch.ones(shape))) for name, shape in shapes.items())
    assert is_weight("head.weight", nn.Conv2d(8, 1, 1).weight), "a layer of one unit is no scale"
    learned = WordEncoder(9, 8, 1, 2, length=5, positions="learned")
    shrunk = {name.rpartition(".")[2] for name, p in learned.named_parameters() if is_weight(name, p)}
    assert shrunk == {"weight"}
    for named, decays in (([weight, bias], [0.1, 0.0]), ([bias], [0.0]), ([weight], [0.1])):  # no empty group
        assert [group["weight_decay"] for group in split(named, 0.1)] == decays


@every
def test_every_parameter_is_stepped_once_at_the_rate_and_without_a_gradient_weights_alone_shrink(name):
    net, _, optimizer, before = begun(name, weight_decay=0.1, lr=0.1)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert moved(net, before) == WEIGHTS
    assert all(net.get_parameter(n).norm() < before[n].norm() for n in WEIGHTS)
    net, _, optimizer, before = begun(name, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    net.loss(torch.randn(4, 3, 6, 6)).backward()
    optimizer.step()
    assert not moved(net, before)


@every
def test_a_gradient_may_come_late(name):
    """A method may hold a head still for its first epoch: its parameters have no gradient then."""
    early, late = (nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    optimizer = recipe(name).build([("early", early), ("late", late)])
    for step in range(3):
        early.grad, late.grad = torch.full((4, 4), 0.5), torch.full((4, 4), 0.5) if step else None
        optimizer.step()
        assert torch.equal(late, torch.ones(4, 4)) == (step == 0)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_lars_scales_the_step_to_the_norm_for_weights_only(weight_decay):
    """By hand: a step of a weight is rate * trust * |w| / (|g| + decay |w|) * (g + decay w), of a bias rate * g."""
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([3.0, 4.0]))
    rule = LARS(batch_size=256, lr=0.5, trust=0.1, weight_decay=weight_decay)
    optimizer = rule.build([("w", weight), ("b", bias)])
    weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([0.0, 2.0])
    optimizer.step()
    local = 0.1 * 5 / (2 + weight_decay * 5)
    step = 0.5 * local * torch.tensor([[3 * weight_decay, 2 + 4 * weight_decay]])
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 4.0]]) - step)
    torch.testing.assert_close(bias.detach(), torch.tensor([3.0, 3.0]))


@pytest.mark.parametrize(("gradient", "share"), [(0.5, 1.0), (5.0, 0.2)])  # SGD's step, and a smaller one
def test_lars_with_a_clip_takes_no_larger_step_than_sgd(gradient, share):
    """By hand, LARC: rate * min(trust |w| / (|g| + decay |w|) / rate, 1) * (g + decay w), here 0.5 * share."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    rule = LARS(batch_size=256, lr=0.5, trust=0.1, trust_clip=True, weight_decay=0.0)
    optimizer = rule.build([("w", weight)])
    weight.grad = torch.tensor([[0.0, gradient]])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 4.0 - 0.5 * share * gradient]]))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_lamb_steps_a_weight_by_the_rate_times_its_norm_and_clips_only_where_it_is_told_to(weight_decay):
    """Adam by hand: after gradients of 100 and 1 the step is (9 + 0.1) / 0.19 over the root of 9.991 / 0.001999."""
    start = torch.randn(8, 8), torch.randn(8)
    weight, bias = (nn.Parameter(each.clone()) for each in start)
    optimizer = recipe("lamb", lr=0.01, weight_decay=weight_decay).build([("w", weight), ("b", bias)])
    weight.grad, bias.grad = 50 * torch.randn(8, 8), 50 * torch.randn(8)
    optimizer.step()
    torch.testing.assert_close((weight.detach() - start[0]).norm(), 0.01 * start[0].norm())
    torch.testing.assert_close((bias.detach() - start[1]).abs(), torch.full((8,), 0.01))  # Adam's first, unclipped
    bias = nn.Parameter(torch.zeros(1))
    optimizer = recipe("lamb", lr=1.0).build([("b", bias)])
    for gradient in (100.0, 1.0):
        before = bias.item()
        bias.grad = torch.tensor([gradient])
        optimizer.step()
    assert before - bias.item() == pytest.approx((9.1 / 0.19) / math.sqrt(9.991 / 0.001999), rel=1e-3)


def test_muon_orthogonalises_kernels_and_takes_steps_of_the_size_of_adamws(rng):
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2, generator=rng))
    before = kernel.detach().clone()
    optimizer = recipe("muon", lr=0.1, weight_decay=0.0).build([("w", kernel)])
    kernel.grad = torch.randn(4, 3, 2, 2, generator=rng)
    optimizer.step()
    step = ((before - kernel.detach()) / 0.1).flatten(1)  # (4, 12)
    scale = 0.2 * math.sqrt(12)  # arXiv 2502.16982, equation 4
    assert torch.linalg.svdvals(step / scale).sub(1).abs().max() < 0.3  # Newton and Schulz stop near 1
    net, rule, optimizer, _ = begun("muon")  # and leaves to AdamW what is no weight or too thin
    train(net.loss, optimizer, rule, 1)
    by_muon = {n for n, p in net.named_parameters() if "momentum_buffer" in optimizer.state[p]}
    assert by_muon == {"convolution.weight", "head.weight"}


@pytest.mark.parametrize(("units", "least", "most"), [(False, 0, 1e-5), (True, 1e-4, 0.05)])
def test_newton_and_schulz_compute_in_bfloat16_only_on_a_cpu_with_units_for_it(units, least, most, rng, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units)
    weight = nn.Parameter(torch.zeros(8, 16))
    optimizer = recipe("muon", lr=1.0, weight_decay=0.0).build([("w", weight)])
    weight.grad = torch.randn(8, 16, generator=rng)
    optimizer.step()
    x = weight.grad.double() / weight.grad.double().norm()
    for a, b, c in timm.optim.muon._COEFFICIENTS[optimizer.defaults["ns_coefficients"]]:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    off = (weight.detach() / (0.2 * math.sqrt(16)) + x).abs().max()
    assert least <= off < most


@every
def test_stopping_and_resuming_is_bit_identical(name):
    net, rule, optimizer, _ = begun(name, lr=0.01)
    train(net.loss, optimizer, rule, 3)
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file := io.BytesIO())
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    train(net.loss, optimizer, rule, 5, start=3)
    ended = {n: p.detach().clone() for n, p in net.named_parameters()}
    for stateless in (False, True):  # the test can fail: without its state it goes elsewhere
        second, rule, optimizer, _ = begun(name, lr=0.01)
        second.load_state_dict(saved["net"])
        if not stateless:
            optimizer.load_state_dict(saved["optimizer"])
        train(second.loss, optimizer, rule, 5, start=3)
        assert bool(moved(second, ended)) == stateless


@every
def test_each_config_finds_the_minimum_of_a_quadratic(name, rng):
    targets = [torch.randn(8, 8, generator=rng), torch.randn(8, generator=rng)]
    away = [0.02 * torch.randn(t.shape, generator=rng) for t in targets]
    points = [nn.Parameter(t + a) for t, a in zip(targets, away, strict=True)]
    rule, pairs = recipe(name), list(zip(points, targets, strict=True))
    optimizer = rule.build([("weight", points[0]), ("bias", points[1])])
    length = Length(400, 10, 256)
    train(lambda _: sum((p - t).square().sum() / 2 for p, t in pairs), optimizer, rule, 400, length=length)
    assert all((p - t).norm() < 0.1 * a.norm() for p, t, a in zip(points, targets, away, strict=True))


def rates(steps, per_epoch, **recipe):
    rule = SGD(**{"batch_size": 64, "lr": 1.0, **recipe})
    return [rule.rate(step, Length(steps, per_epoch, 64)) for step in range(steps)]


def test_rates_of_a_whole_run_by_hand():
    assert [cosine(p, 0.0) for p in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [cosine(p, 0.2) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])
    expected = [1 / 3, 2 / 3, 1, (1 + ROOT) / 2, 0.5, (1 - ROOT) / 2]
    assert rates(6, 3, warm_up=Duration(2.0, "st")) == pytest.approx(expected)
    steps = {"warm_up": Duration(10.0, "st"), "schedule": "step", "gamma": 0.5}  # shares of what follows the warm-up
    assert rates(20, 4, **steps, milestones=(0.5, 0.7))[10:] == pytest.approx([1] * 5 + [0.5] * 2 + [0.25] * 3)
    assert rates(20, 4, **steps, milestones=())[10:] == [1] * 10
    first, *_, last = rates(100, 10, lr=0.3, warm_up=NONE)
    assert first == 0.3
    assert 0 < last < 1e-4, "the last step still learns"
    assert rates(100, 10, lr=0.3, final_lr=0.1)[-1] == pytest.approx(0.03, rel=0.01)
    assert rates(1, 1, lr=0.05) == [0.05], "a run of one step"
    expected = [(step + 1) / 9 for step in range(8)] + [1.0] * 12
    for warm_up in ("2ep", "8st", "40%"):
        assert rates(20, 4, warm_up=Duration.parse(warm_up), schedule="constant") == pytest.approx(expected), warm_up


def test_recipes_that_contradict_themselves_are_refused_and_the_rate_scales_with_the_batch_on_demand():
    assert rates(3, 3, warm_up=Duration(3.0, "st"))[2] == 0.75
    with pytest.raises(ValueError, match=r"warm_up=3st is 3 steps, and the whole run has 2.*warm_up=5%"):
        rates(2, 3, warm_up=Duration(3.0, "st"))
    with pytest.raises(ValueError, match=r"momentum=0.9"):
        SGD(batch_size=64, momentum=0.0, nesterov=True)
    assert SGD(batch_size=1024, lr=0.1).peak == 0.1
    scaled = SGD(batch_size=1024, lr=0.1, scale_lr=True, warm_up=NONE)
    built = scaled.build([("w", nn.Parameter(torch.ones(2, 2)))]).param_groups[0]["lr"]
    assert [scaled.peak, scaled.rate(0, Length(10, 5, 1024)), built] == pytest.approx([0.4] * 3)
