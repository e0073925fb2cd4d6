"""What the contract asks of every pretext task; a new YAML in conf/pretext is a new case."""

import inspect
from unittest.mock import patch

import pytest
import torch
from conftest import in_turn, names
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError, FakeTensorMode
from toys import choice, context, kind_of, noise_of

from ssl_runner.augment.image.views import Views
from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder
from ssl_runner.duration import Length
from ssl_runner.engine.learner import main_group
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.regulariser.variance import Variance

every_pretext = pytest.mark.parametrize("name", names("pretext"))


@every_pretext
def test_yaml_spells_out_the_constructor(name, method):
    target, settings, defaults = choice("pretext", name)
    mounts = [key for entry in settings.pop("defaults") if isinstance(entry, dict) for key in entry]
    mounted = {key.split("@")[1] for key in mounts if key.startswith("/augment@")}
    parameters = inspect.signature(target).parameters.items()
    assert mounted == {key for key, p in parameters if p.annotation in (Views, Recipe)}
    given = {key: value for key, value in settings.items() if key not in mounted}
    assert given == {key: value for key, value in defaults.items() if value is not inspect.Parameter.empty}
    pretext = method(name)
    assert type(pretext) is target
    assert all(hasattr(pretext, key) for key in settings)


@every_pretext
def test_randomness_is_the_generators(name, method):
    drawn = ["pretext.noise=0.2"] if name == "clm" else []  # by default a language model draws nothing
    pretext, batch = method(name, *drawn), noise_of(kind_of("pretext", name))
    first = pretext.views(batch, context(1))
    torch.rand(1)  # the global generator plays no part
    again, other = (pretext.views(batch, context(seed)) for seed in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    if name != "bigan":  # spectral norm refines its vectors in each pass
        assert torch.equal(pretext(first).value, pretext(first).value)


def views_beside_others(pretext, kind):
    """Views of a batch, and of another of which the first sample alone is the same."""
    batch, replaced = noise_of(kind), noise_of(kind, seed=9).x
    replaced[0] = batch.x[0]
    return (pretext.views(Batch(x, batch.index), context()) for x in (batch.x, replaced))


@pytest.mark.parametrize("name", [name for name in names("pretext") if kind_of("pretext", name) == "image"])
def test_views_are_images_as_the_dataset_makes_them_each_of_its_own_sample(name, method):
    pretext = method(name, "pretext.augment.jitter=0.5")
    for view, other in zip(*views_beside_others(pretext, "image"), strict=True):
        if view.ndim != 4:
            assert torch.equal(view, other), "a label, mask or code depends on images"
            continue
        assert (view.dtype, view.shape[1], view.requires_grad) == (torch.float32, 3, False)
        assert 0 <= view.min() < view.max() <= 1
        assert (view == other).flatten(1).all(1).sum() == len(view) // 8, "a view depends on its batch mates"


@pytest.mark.parametrize("name", [name for name in names("pretext") if kind_of("pretext", name) != "image"])
def test_views_of_other_kinds_are_each_of_their_own_sample(name, method):
    before, after = views_beside_others(method(name), kind_of("pretext", name))
    changed = 0
    for view, other in zip(before, after, strict=True):
        assert (view.dtype, view.requires_grad) == (other.dtype, False)
        same = (view == other).flatten(1).all(1).view(-1, 8)
        assert same[:, 0].all(), "a view depends on its batch mates"
        changed += int((~same[:, 1:]).sum())
    assert changed, "no view shows the samples"


@every_pretext
@pytest.mark.parametrize("autocast", [False, True])
def test_each_group_learns_all_of_its_parameters_and_nothing_else_is_attached(name, autocast, method):
    pretext = method(name)
    views, groups = pretext.views(noise_of(kind_of("pretext", name)), context()), pretext.groups()
    learnt = [each for named in groups.values() for each, _ in named]
    assert sorted(learnt) == sorted(each for each, p in pretext.named_parameters() if p.requires_grad)
    for group, named in groups.items():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = pretext(views, group)
        assert loss.value.dtype == torch.float32
        assert not any(each.requires_grad or each.ndim for each in loss.metrics.values())
        assert not any(each.requires_grad or not each.ndim for each in loss.kept.values())
        loss.value.backward(retain_graph=True)
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for _, p in named)
        assert all(p.grad is None for p in pretext.parameters() if not p.requires_grad)
        pretext.zero_grad()
    loss.embedding.square().sum().backward()  # of the last group: a regulariser on representations reaches the encoder
    assert all(p.grad is not None for p in pretext.encoder.parameters())


@every_pretext
def test_the_embedding_is_whole_views_one_after_another(name, method):
    """So a regulariser can measure each alone; in eval mode, in which batch norms see no batch mates."""
    pretext = method(name).eval()
    beside = views_beside_others(pretext, kind_of("pretext", name))
    rows, others = (pretext(views, main_group(pretext)).embedding for views in beside)
    same = torch.isclose(rows, others).all(1).view(-1, 8)
    assert same[:, 0].all(), "a row is not of the sample whose place it has"
    assert not same[:, 1:].any()


@every_pretext
def test_trained_is_a_part_and_rates_name_parameters(name, method):
    pretext = method(name)
    assert isinstance(pretext.trained(), Encoder)
    assert any(module is pretext.trained() for module in pretext.modules())
    prefixes, *later = (list(pretext.rates(context(step=step))) for step in (0, 50, 99))
    assert later == [prefixes, prefixes]
    for prefix in prefixes:
        assert any(each.startswith(f"{prefix}.") for each, _ in pretext.named_parameters()), prefix


def take_step(pretext, kind="image"):
    """All that a task does in a step, on a GPU of fake tensors: they refuse what mixes devices, or waits for one."""
    x = noise_of(kind, 4).x
    # A recurrent network asks cuDNN, which a GPU that is not there does not have.
    recurrence = patch("torch.gru", lambda x, start, *given: (x * start[0, :, None], start))
    with torch.no_grad(), recurrence, FakeTensorMode(allow_non_fake_inputs=True):
        pretext.to_empty(device="cuda")
        batch = Batch(torch.empty_like(x, device="cuda"), torch.arange(4, device="cuda"))
        ctx, kept = Context(3, Length(12, 5, 4), CounterRng(0, torch.device("cuda")), lambda: iter([batch])), {}
        pretext.before_step(ctx)
        for group in pretext.groups():
            views = pretext.views(batch, ctx)
            loss = pretext(views, group)
            terms = [] if loss.embedding is None else Variance()(loss._replace(samples=4), pretext).values()
            tensors = [*views, loss.value, *loss.metrics.values(), *loss.kept.values(), *terms]
            assert {each.device.type for each in tensors} == {"cuda"}
            kept |= loss.kept
        pretext.after_step(ctx, kept)


@pytest.mark.parametrize("name", in_turn(names("pretext")))
def test_a_task_stays_on_its_device(name, method):
    take_step(method(name), kind_of("pretext", name))


BUGS = {
    "drawn": (lambda x, ctx: x + torch.rand(x.shape), FakeTensorDeviceMismatchError),
    "made": (lambda x, ctx: x * torch.linspace(0, 1, x.shape[-1]), FakeTensorDeviceMismatchError),
    "read": (lambda x, ctx: x / x.max().item(), DataDependentOutputException),
}


@pytest.mark.parametrize(("bug", "error"), BUGS.values(), ids=BUGS)
def test_what_is_planted_is_seen(method, bug, error, monkeypatch):
    views = SimCLR.views
    monkeypatch.setattr(SimCLR, "views", lambda self, b, ctx: views(self, Batch(bug(b.x, ctx), b.index), ctx))
    with pytest.raises(error):
        take_step(method("simclr"))
