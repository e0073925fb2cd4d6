"""What decays, what a step is, and that a built optimizer's state is all in its state_dict."""

import importlib
import inspect
import io
import math
import typing
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from ssl_runner.duration import Duration, Length
from ssl_runner.layers.weights import is_weight
from ssl_runner.optimizer.groups import split
from ssl_runner.optimizer.lars import LARS
from ssl_runner.optimizer.sgd import SGD

CONF = sorted((Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))
every = pytest.mark.parametrize("name", [path.stem for path in CONF])


def settings(name):
    """The class a YAML names and its values as the class wants them."""
    content = yaml.safe_load(next(path for path in CONF if path.stem == name).read_text())
    module, _, kind = content.pop("_target_").rpartition(".")
    assert module == f"ssl_runner.optimizer.{name}"
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return getattr(importlib.import_module(module), kind), values | {"warm_up": Duration.parse(values["warm_up"])}


def recipe(name, **changed):
    kind, values = settings(name)
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


WEIGHTS = {"convolution.weight", "head.weight", "thin.weight"}


def train(net, optimizer, rule, steps, start=0):
    """As the trainer does: the rate of all groups from the step, data from the step."""
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = rule.rate(step, Length(10, 5, 4))
        x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        net.loss(x).backward()
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
    matrix = nn.Parameter(torch.ones(2, 2))
    assert is_weight("position.weight", matrix)  # a head that tells positions has weights like any other
    assert is_weight("classifier", matrix)
    assert not is_weight("decoder.mask_token", matrix)


def test_an_empty_group_is_left_out():
    weight, bias = ("w", nn.Parameter(torch.ones(2, 2))), ("b", nn.Parameter(torch.ones(2)))
    for named, decays in (([weight, bias], [0.1, 0.0]), ([bias], [0.0]), ([weight], [0.1])):
        assert [group["weight_decay"] for group in split(named, 0.1)] == decays


@every
def test_without_a_gradient_a_step_shrinks_the_weights_and_nothing_else(name):
    net, _, optimizer, before = begun(name, weight_decay=0.1, lr=0.1)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert moved(net, before) == WEIGHTS
    assert all(net.get_parameter(n).norm() < before[n].norm() for n in WEIGHTS)


@every
def test_every_parameter_is_stepped_once_and_at_the_rate(name):
    net, _, optimizer, before = begun(name, weight_decay=0.0)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
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


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_lamb_steps_a_weight_by_the_rate_times_its_norm(weight_decay):
    weight, bias = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))
    norm, before = weight.detach().norm(), bias.detach().clone()
    optimizer = recipe("lamb", lr=0.01, weight_decay=weight_decay).build([("w", weight), ("b", bias)])
    start = weight.detach().clone()
    weight.grad, bias.grad = 50 * torch.randn(8, 8), 50 * torch.randn(8)
    optimizer.step()
    torch.testing.assert_close((weight.detach() - start).norm(), 0.01 * norm)
    torch.testing.assert_close((bias.detach() - before).abs(), torch.full((8,), 0.01))  # Adam's first step, unclipped


def test_lamb_clips_only_where_it_is_told_to():
    """Adam by hand: after gradients of 100 and 1 the step is (9 + 0.1) / 0.19 over the root of 9.991 / 0.001999."""
    bias = nn.Parameter(torch.zeros(1))
    optimizer = recipe("lamb", lr=1.0).build([("b", bias)])
    for gradient in (100.0, 1.0):
        before = bias.item()
        bias.grad = torch.tensor([gradient])
        optimizer.step()
    assert before - bias.item() == pytest.approx((9.1 / 0.19) / math.sqrt(9.991 / 0.001999), rel=1e-3)


def test_muon_orthogonalises_a_kernel_and_takes_steps_of_the_size_of_adamws(rng):
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2, generator=rng))
    before = kernel.detach().clone()
    optimizer = recipe("muon", lr=0.1, weight_decay=0.0).build([("w", kernel)])
    kernel.grad = torch.randn(4, 3, 2, 2, generator=rng)
    optimizer.step()
    step = ((before - kernel.detach()) / 0.1).flatten(1)  # (4, 12)
    scale = 0.2 * math.sqrt(12)  # arXiv 2502.16982, equation 4
    assert torch.linalg.svdvals(step / scale).sub(1).abs().max() < 0.3  # Newton and Schulz stop near 1


def test_muon_leaves_to_adamw_what_is_no_weight_or_too_thin():
    net, rule, optimizer, _ = begun("muon")
    train(net, optimizer, rule, 1)
    by_muon = {n for n, p in net.named_parameters() if "momentum_buffer" in optimizer.state[p]}
    assert by_muon == {"convolution.weight", "head.weight"}


@every
def test_stopping_and_resuming_is_bit_identical(name):
    whole, rule, optimizer, _ = begun(name, lr=0.01)
    train(whole, optimizer, rule, 5)
    ended = {n: p.detach().clone() for n, p in whole.named_parameters()}

    first, rule, optimizer, _ = begun(name, lr=0.01)
    train(first, optimizer, rule, 3)
    file = io.BytesIO()
    torch.save({"net": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    for stateless in (False, True):  # the test can fail: without its state it goes elsewhere
        second, rule, optimizer, _ = begun(name, lr=0.01)
        second.load_state_dict(saved["net"])
        if not stateless:
            optimizer.load_state_dict(saved["optimizer"])
        train(second, optimizer, rule, 5, start=3)
        assert bool(moved(second, ended)) == stateless


@every
def test_each_config_finds_the_minimum_of_a_quadratic(name):
    rng = torch.Generator().manual_seed(0)
    targets = [torch.randn(8, 8, generator=rng), torch.randn(8, generator=rng)]
    points = [nn.Parameter(t + 0.02 * torch.randn(t.shape, generator=rng)) for t in targets]
    rule, steps = recipe(name), 400
    optimizer = rule.build([("weight", points[0]), ("bias", points[1])])
    away = [(p.detach() - t).norm().item() for p, t in zip(points, targets, strict=True)]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rule.rate(step, Length(steps, 10, 256))
        sum((p - t).square().sum() / 2 for p, t in zip(points, targets, strict=True)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for p, t, start in zip(points, targets, away, strict=True):
        assert (p.detach() - t).norm() < 0.1 * start


@every
def test_each_config_spells_out_the_defaults_and_the_signature_is_a_schema(name):
    kind, values = settings(name)
    parameters = inspect.signature(kind).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    assert {k: p.default for k, p in parameters.items() if p.default is not p.empty} == values
    assert [k for k, p in parameters.items() if p.default is p.empty] == ["batch_size"]
    hints = typing.get_type_hints(kind.__init__, include_extras=True)
    assert hints["lr"].__metadata__[0].gt == 0


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match=r"momentum=0.9"):
        SGD(batch_size=64, momentum=0.0, nesterov=True)
