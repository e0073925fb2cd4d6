"""LeJEPA and VISReg: losses by their equations, what keeps them from a collapse, and mistakes that were made."""

import pytest
import torch
from toys import SHAPE, Conv, batch, colours, context, number, train

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Pretext
from ssl_runner.loss.sliced import epps_pulley, wasserstein
from ssl_runner.pretext.lejepa import LeJEPA
from ssl_runner.pretext.visreg import VISReg

CROPS = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
SLICED = {"augment_local": CROPS, "shape": SHAPE, "global_views": 3, "slices": 20}
KINDS = {"lejepa": (LeJEPA, SLICED), "visreg": (VISReg, SLICED)}
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
    torch.testing.assert_close(loss.embedding.double(), z)
    assert number(loss.metrics["spread"]) == pytest.approx(number(rows.std(1).mean()), rel=1e-4)


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


LIGHT = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)


def unpaired(views):
    """Each view is of another sample."""
    return torch.cat([view.roll(shift, 0) for shift, view in enumerate(views.split(32))])


def share_within(pretext) -> float:
    """The share of the variance of embeddings that is within samples: 1 if views have nothing in common."""
    with torch.no_grad():
        (views,) = pretext.eval().views(Batch(colours(-1, 64), torch.arange(64)), context(7))
        z = pretext.projector(pretext.encoder(views).pooled).unflatten(0, (-1, 64))
    return number((z - z.mean(0)).square().sum() / (z - z.mean((0, 1))).square().sum())


@pytest.mark.parametrize("name", KINDS)
def test_the_hue_that_views_share_is_found_but_not_from_views_of_different_samples(name):
    shares = {}
    for paired in (True, False):
        pretext = task(name, augment=LIGHT)
        before = share_within(pretext)
        train(pretext, 60, colours, spoil=lambda v, paired=paired: v if paired else (unpaired(v[0]),))
        shares[paired] = share_within(pretext) / before
    assert shares[True] < 0.6 < shares[False], shares
