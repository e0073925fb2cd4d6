"""LeJEPA, VISReg, FroSSL, MMCR and EMP-SSL: losses by their equations, what a collapse costs, planted mistakes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import SHAPE, Conv, batch, colours, context, number, train

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Pretext
from ssl_runner.loss.coding import coding_rate, collision_entropy, nuclear_norm
from ssl_runner.loss.sliced import epps_pulley, wasserstein
from ssl_runner.pretext import emp_ssl, mmcr
from ssl_runner.pretext.emp_ssl import EMPSSL
from ssl_runner.pretext.frossl import FroSSL
from ssl_runner.pretext.lejepa import LeJEPA
from ssl_runner.pretext.mmcr import MMCR
from ssl_runner.pretext.visreg import VISReg

CROPS = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
SLICED = {"augment_local": CROPS, "shape": SHAPE, "global_views": 3, "slices": 20}
KINDS = {
    "lejepa": (LeJEPA, SLICED),
    "visreg": (VISReg, SLICED),
    "frossl": (FroSSL, {"view_count": 3}),
    "mmcr": (MMCR, {"view_count": 3}),
    "emp_ssl": (EMPSSL, {"patches": 3}),
}
predicts = pytest.mark.parametrize("name", ["lejepa", "visreg"])


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": Conv(), "augment": CROPS, "hidden": 16, "out": 8, **own, **settings}).train()


def embeddings(pretext, views):
    return pretext.projector(torch.cat([pretext.encoder(view).pooled for view in views])).double()


@predicts
@pytest.mark.parametrize("local_views", [0, 2])
def test_each_view_predicts_the_mean_of_the_global_ones_and_the_weight_shares_the_loss_out(name, local_views):
    pretext = task(name, local_views=local_views, weight=0.3)
    views = pretext.views(batch(), context())
    assert [tuple(view.shape) for view in views] == [(24, 3, 8, 8), (16, 3, 4, 4)][: 2 if local_views else 1]
    loss, z = pretext(views), embeddings(pretext, views)
    rows, prediction = z.unflatten(0, (3 + local_views, 8)), 0.0
    for sample in range(8):
        target = (rows[0, sample] + rows[1, sample] + rows[2, sample]) / 3  # local views have no part in it
        prediction += sum((rows[v, sample] - target).square().sum() for v in range(3 + local_views))
    prediction = prediction / rows.numel()
    assert number(loss.metrics["prediction"]) == pytest.approx(number(prediction), rel=1e-4)
    regulariser = pretext.regularise(rows.float())[0]
    assert number(loss.value) == pytest.approx(number(0.7 * prediction + 0.3 * regulariser), rel=1e-4)
    local_alone = (rows[3:] - rows[:3].mean(0)).square().mean()  # global views that predict nothing: a mistake
    assert not torch.isclose(prediction, local_alone, rtol=1e-2)
    torch.testing.assert_close(loss.embedding.double(), z)
    assert number(loss.metrics["spread"]) == pytest.approx(number(rows.std(1, correction=0).mean()), rel=1e-4)


def test_a_single_view_is_refused():
    with pytest.raises(ValueError, match=r"single view .* type pretext\.global_views=2"):
        task("lejepa", global_views=1)


def test_lejepa_takes_the_statistic_of_each_view_alone():
    pretext, z = task("lejepa"), torch.randn(3, 8, 8)
    expected = [epps_pulley(z[v : v + 1] @ pretext.directions.rows.T).mean() for v in range(3)]
    torch.testing.assert_close(pretext.regularise(z)[0], sum(expected) / 3)
    apart = torch.stack([z[0], z[0] + 5, z[0] - 5])  # views far from each other are no normal distribution together
    together = epps_pulley(apart.view(1, 24, 8) @ pretext.directions.rows.T).mean()
    assert not torch.isclose(pretext.regularise(apart)[0], together, rtol=0.1)


def test_visreg_by_hand_and_the_shape_has_no_gradient_that_stretches():
    z = torch.special.ndtri(torch.arange(1, 8, dtype=torch.float64) / 8).view(1, 7, 1).expand(2, 7, 1)
    pretext = task("visreg", out=1, slices=1)
    pretext.directions.rows.fill_(1.0)
    std = z[0].std(correction=0)
    value, metrics = pretext.regularise(2 * z + 3)
    assert number(metrics["scale"]) == pytest.approx(number((1 - 2 * std) ** 2), rel=1e-4)
    assert number(metrics["centre"]) == pytest.approx(9, rel=1e-4)
    assert number(metrics["shape"]) == pytest.approx(number(wasserstein((z / std).float()).mean()), rel=1e-3)
    assert number(value) == pytest.approx(sum(number(each) for each in metrics.values()), rel=1e-4)
    weighted = task("visreg", out=1, slices=1, scale_weight=2.0, shape_weight=0.0, centre_weight=0.5)
    expected = 2 * number(metrics["scale"]) + 0.5 * number(metrics["centre"])
    assert number(weighted.regularise(2 * z + 3)[0]) == pytest.approx(expected, rel=1e-4)
    pretext = task("visreg", scale_weight=0.0, centre_weight=0.0)
    z = torch.randn(1, 50, 8)
    value = pretext.regularise(z)[0]
    for same in (10 * z, z + 3, z[:, torch.randperm(50)]):
        torch.testing.assert_close(pretext.regularise(same)[0], value)
    z.requires_grad_()
    standardised = ((z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True).detach()).detach()
    standardised.requires_grad_()
    (ours,) = torch.autograd.grad(pretext.regularise(z)[0], z)
    (of_shape,) = torch.autograd.grad(wasserstein(pretext.directions(standardised)).mean(), standardised)
    scaled = of_shape / z.std(1, correction=0, keepdim=True).detach()
    torch.testing.assert_close(ours, scaled - scaled.mean(1, keepdim=True))


def test_near_a_collapse_the_gradient_of_lejepa_vanishes_and_that_of_visreg_does_not():
    sizes = {}
    for name in ("lejepa", "visreg"):
        z = (1e-4 * torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
        (gradient,) = torch.autograd.grad(task(name).regularise(z)[0], z)
        assert gradient.isfinite().all()
        sizes[name] = number(gradient.norm() / 64)
    assert sizes["visreg"] > 50 * sizes["lejepa"]
    z = torch.ones(1, 64, 8, requires_grad=True)
    value, metrics = task("visreg").regularise(z)
    assert number(metrics["scale"]) == pytest.approx(1)
    assert torch.autograd.grad(value, z)[0].isfinite().all()


@predicts
def test_directions_are_new_at_each_step_the_same_in_each_pass_and_no_state(name, make):
    learner, seen = make(f"pretext={name}", "accumulate=2", "evaluator=none").learner, []
    directions = learner.pretext.directions
    directions.register_forward_hook(lambda module, inputs, output: seen.append(module.rows.clone()))
    for step in range(2):
        learner.step(step)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[1], seen[2])
    assert not [key for key in learner.pretext.state_dict() if "directions" in key]


counted = pytest.mark.parametrize("name", ["frossl", "mmcr", "emp_ssl"])


def by_the_paper(name: str, z: Tensor) -> Tensor:
    """The loss of embeddings (V, B, D), in loops over views and samples."""
    views, samples, dim = z.shape
    if name == "frossl":
        z = torch.stack([view / view.square().sum(0).sqrt() for view in z])
        mean = sum(z) / views
        terms = [views * dim * (view - mean).square().mean() - collision_entropy(view[None])[0] for view in z]
        return sum(terms) / views
    z = z / z.square().sum(2, keepdim=True).sqrt()
    mean = sum(z) / views
    if name == "mmcr":
        own = sum(nuclear_norm(z[None, :, b])[0] for b in range(samples)) / samples
        return 0.3 * own - nuclear_norm(mean[None])[0]
    cosines = [(view * mean).sum(1) / mean.square().sum(1).sqrt() for view in z]
    rates = [coding_rate(view[None], 0.2)[0] for view in z]
    return -200 * sum(cosines).mean() / views - sum(rates) / views


@counted
def test_the_loss_is_the_papers_of_all_views_in_any_order_of_views_and_samples(name):
    pretext = task(name, **({"compression": 0.3} if name == "mmcr" else {}))
    views = pretext.views(batch(), context())
    assert views[0].shape == (24, 3, 8, 8)
    assert len(views[0].flatten(1).unique(dim=0)) == 24  # each has its own draw
    loss, z = pretext(views), embeddings(pretext, views)
    assert number(loss.value) == pytest.approx(number(by_the_paper(name, z.unflatten(0, (3, 8)))), rel=1e-4)
    torch.testing.assert_close(loss.embedding.double(), z)
    for order in (torch.arange(24).roll(8), torch.arange(24).view(3, 8).flip(1).flatten()):
        torch.testing.assert_close(pretext((views[0][order],)).value, loss.value, rtol=1e-4, atol=1e-4)
    mixed = torch.cat([views[0][:8], views[0][8:].roll(1, 0)])  # who belongs together matters
    assert not torch.isclose(pretext((mixed,)).value, loss.value, rtol=1e-3)


def scored(pretext, z: Tensor) -> float:
    """The loss if the projector yields z (V B, D)."""
    pretext.projector.forward = lambda pooled: z
    return number(pretext((torch.rand(len(z), *SHAPE),)).value)


EVEN, SAME = torch.eye(8).repeat(6, 1), torch.ones(48, 8)  # of 3 equal views of 16 samples: all directions alike; one


@counted
def test_the_best_loss_and_that_of_a_collapse_by_hand(name):
    pretext, least = task(name), {"frossl": -math.log(8), "mmcr": -math.sqrt(16 * 8)}
    most = {"frossl": 0, "mmcr": -math.sqrt(16), "emp_ssl": -200 - 0.5 * math.log(1 + 8 / 0.2)}
    least["emp_ssl"] = -200 - 4 * math.log(1 + 1 / 0.2)
    assert scored(pretext, EVEN) == pytest.approx(least[name], rel=1e-5)
    assert scored(pretext, SAME) == pytest.approx(most[name], rel=1e-4, abs=1e-5)


def test_planted_a_coding_rate_with_its_sign_turned_makes_a_collapse_the_best(monkeypatch):
    assert scored(task("emp_ssl"), EVEN) < scored(task("emp_ssl"), SAME)
    monkeypatch.setattr(emp_ssl, "coding_rate", lambda z, epsilon: -coding_rate(z, epsilon))
    assert scored(task("emp_ssl"), EVEN) > scored(task("emp_ssl"), SAME)


@pytest.mark.parametrize("planted", [False, True])
def test_planted_mmcr_without_unit_rows_gains_by_longer_rows_without_bound(monkeypatch, planted):
    if planted:
        monkeypatch.setattr(mmcr.F, "normalize", lambda z, dim: z)
    value, longer = (scored(task("mmcr"), length * EVEN) for length in (1.0, 10.0))
    assert longer == pytest.approx(10 * value if planted else value, rel=1e-5)


def test_frossl_brings_each_dimension_and_not_each_row_to_one_length():
    pretext, z = task("frossl"), torch.randn(48, 8)
    value = scored(pretext, z)
    assert scored(pretext, z * torch.linspace(0.1, 3, 8)) == pytest.approx(value, rel=1e-4)
    assert scored(pretext, z * torch.linspace(0.1, 3, 16).repeat(3)[:, None]) != pytest.approx(value, rel=1e-2)


LIGHT = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)


def unpaired(views):
    """Each view is of another sample."""
    return torch.cat([view.roll(shift, 0) for shift, view in enumerate(views.split(32))])


def accuracy(pretext) -> float:
    """How often, among 64 colours, the nearest first view of a second view is of the same sample. At random: 1/64."""
    hits = []
    for seed in range(5):
        with torch.no_grad():
            (views,) = pretext.eval().views(Batch(colours(-1, 64), torch.arange(64)), context(seed))
            z = pretext.projector(pretext.encoder(views).pooled).unflatten(0, (-1, 64))
        z = F.normalize(z - z.mean((0, 1)), dim=2)
        hits.append((z[1] @ z[0].T).argmax(1) == torch.arange(64))
    return number(torch.stack(hits).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_hue_that_views_share_is_found_but_not_from_views_of_different_samples(name):
    pretext, other = (task(name, augment=LIGHT, hidden=32, out=16) for _ in range(2))
    before = accuracy(pretext)
    train(pretext, 60, colours)
    train(other, 60, colours, spoil=lambda views: (unpaired(views[0]),))
    after, without = accuracy(pretext), accuracy(other)
    assert after > before + 0.04 > without, (before, after, without)
