"""What the contract asks of every pretext task; a new YAML in conf/pretext is a new case."""

import inspect
from collections.abc import Callable

import pytest
import torch
import yaml
from conftest import names
from toys import context

from ssl_runner.augment.image.views import Views
from ssl_runner.config.compose import TREE
from ssl_runner.contract import Batch, Encoder, Pretext
from ssl_runner.duration import Duration

Make = Callable[..., Pretext]
every_pretext = pytest.mark.parametrize("name", names("pretext"))


def batch(n: int = 8, seed: int = 0) -> Batch:
    x = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.arange(n))


@every_pretext
def test_yaml_spells_out_the_constructor(name: str, method: Make) -> None:
    document = yaml.safe_load((TREE / "pretext" / f"{name}.yaml").read_text())
    pretext = method(name)
    mounts = [key for entry in document.pop("defaults") if isinstance(entry, dict) for key in entry]
    mounted = {key.split("@")[1] for key in mounts if key.startswith("/augment@")}
    assert document.pop("_target_") == f"{type(pretext).__module__}.{type(pretext).__name__}"
    signature = inspect.signature(type(pretext)).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.values())
    assert mounted == {key for key, p in signature.items() if p.annotation is Views}
    defaults = {key: p.default for key, p in signature.items() if p.default is not p.empty}
    given = {key: value for key, value in document.items() if key not in mounted}
    given |= {key: Duration.parse(given[key]) for key, value in defaults.items() if isinstance(value, Duration)}
    assert given == defaults
    assert all(hasattr(pretext, key) for key in document)


@every_pretext
def test_randomness_is_the_generators(name: str, method: Make) -> None:
    pretext = method(name)
    first = pretext.views(batch(), context(1))
    torch.rand(1)  # the global generator plays no part
    again, other = (pretext.views(batch(), context(seed)) for seed in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    if name == "bigan":  # spectral norm refines its vectors in each pass
        return
    values = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        values.append(pretext(first).value)
    assert torch.equal(*values)


@every_pretext
def test_views_are_images_as_the_dataset_makes_them_each_of_its_own_sample(name: str, method: Make) -> None:
    pretext, some = method(name, "pretext.augment.jitter=0.5"), batch()
    replaced = batch(seed=9).x
    replaced[0] = some.x[0]
    before, after = (pretext.views(Batch(x, some.index), context()) for x in (some.x, replaced))
    for view, other in zip(before, after, strict=True):
        if view.ndim != 4:
            assert torch.equal(view, other), "a label, mask or code depends on images"
            continue
        assert view.dtype == torch.float32
        assert view.shape[1] == 3
        assert 0 <= view.min() < view.max() <= 1
        assert not view.requires_grad
        same = (view == other).flatten(1).all(1)
        assert same.sum() == len(view) // len(some.x), "a view depends on its batch mates"


@every_pretext
@pytest.mark.parametrize("autocast", [False, True])
def test_each_group_learns_all_of_its_parameters_and_nothing_else_is_attached(
    name: str, autocast: bool, method: Make
) -> None:
    pretext = method(name)
    views, groups = pretext.views(batch(), context()), pretext.groups()
    learnt = [each for named in groups.values() for each, _ in named]
    assert sorted(learnt) == sorted(each for each, p in pretext.named_parameters() if p.requires_grad)
    for group, named in groups.items():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = pretext(views, group)
        assert loss.value.dtype == torch.float32
        assert all(not each.requires_grad and each.ndim == 0 for each in loss.metrics.values())
        assert all(not each.requires_grad and each.ndim > 0 for each in loss.kept.values())
        loss.value.backward(retain_graph=True)
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for _, p in named)
        assert all(p.grad is None for p in pretext.parameters() if not p.requires_grad)
        pretext.zero_grad()
    loss.embedding.square().sum().backward()  # of the last group: a regulariser on representations reaches the encoder
    assert all(p.grad is not None for p in pretext.encoder.parameters())


@every_pretext
def test_trained_is_a_part_and_rates_name_parameters(name: str, method: Make) -> None:
    pretext = method(name)
    assert isinstance(pretext.trained(), Encoder)
    assert any(module is pretext.trained() for module in pretext.modules())
    steps = [pretext.rates(context(step=step)) for step in (0, 50, 99)]
    assert len({tuple(rates) for rates in steps}) == 1
    for prefix in steps[0]:
        assert any(each.startswith(f"{prefix}.") for each, _ in pretext.named_parameters()), prefix
