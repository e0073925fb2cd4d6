"""MSN: the loss by the authors' formulas, its prior, who drops patches, and the teacher."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, Patches, batch, context, gradients, number, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.loss.sinkhorn import sinkhorn
from ssl_runner.pretext.msn import MSN


def task(**settings) -> MSN:
    torch.manual_seed(0)
    small = {"hidden": 16, "out": 8, "prototypes": 6, "drop": 0.25, "local_views": 3}
    views = {"augment": Views(scale=(0.5, 1.0)), "augment_local": Views(scale=(0.2, 0.5))}
    return MSN(**{"encoder": Patches(), "shape": SHAPE, **views, **small, **settings}).train()


@pytest.mark.parametrize("iterations", [0, 3])
def test_msns_loss_is_that_of_sharpened_targets_and_the_divergence_of_the_mean(iterations):
    pretext = task(iterations=iterations, weight=0.5, prior=0.25)
    wander(pretext.teacher_encoder, pretext.teacher_projector)
    whole, masked, shown, focal = views = pretext.views(batch(), context())
    assert [tuple(each.shape) for each in views] == [(8, 3, 8, 8), (8, 3, 8, 8), (8, 12), (24, 3, 4, 4)]
    assert all(len(set(row.tolist())) == 12 for row in shown)
    loss = pretext(views)
    assert pretext.encoder.asked[-2:] == [True, False]
    assert pretext.teacher_encoder.asked[-1:] == [False]
    z = torch.cat([pretext.encoder(masked, shown).pooled, pretext.encoder(focal).pooled])
    q = F.normalize(pretext.head.prototypes.weight, dim=1)
    p = (F.normalize(pretext.head.projector(z), dim=1) @ q.T / 0.1).softmax(1)  # (4 * 8, 6)
    teacher = F.normalize(pretext.teacher_projector(pretext.teacher_encoder(whole).pooled), dim=1)
    soft = (teacher @ q.T / 0.1).softmax(1)
    sharp = soft**4 / (soft**4).sum(1, keepdim=True)  # a sharpening of 0.25, as the authors have it
    targets = sinkhorn(sharp.log(), 3) if iterations else sharp.detach()
    entropy = -(targets.repeat(4, 1) * p.log()).sum(1).mean()
    prior = torch.arange(1.0, 7) ** -0.25
    divergence = (p.mean(0) * (p.mean(0) / (prior / prior.sum())).log()).sum()
    torch.testing.assert_close(loss.metrics["cross_entropy"], entropy.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.metrics["divergence"], divergence.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.value, entropy + 0.5 * divergence, rtol=1e-4, atol=1e-5)
    loss.value.backward()
    sizes = gradients(pretext)
    assert {name for name, size in sizes.items() if size is None} == {n for n in sizes if n.startswith("teacher_")}
    own = torch.autograd.grad(entropy + 0.5 * divergence, pretext.head.prototypes.weight)[0]
    torch.testing.assert_close(pretext.head.prototypes.weight.grad, own, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_msns_divergence_is_least_at_the_prior_and_largest_at_a_collapse(prior):
    pretext = task(prior=prior)
    share = pretext.log_prior.exp()
    torch.testing.assert_close(share, F.normalize(torch.arange(1.0, 7) ** -prior, p=1, dim=0))
    assert number(pretext.divergence(share.expand(5, -1))) == pytest.approx(0, abs=1e-6)
    one = torch.eye(6)[5].expand(4, -1)  # the rarest
    assert number(pretext.divergence(one)) == pytest.approx(-math.log(share[5]), rel=1e-6)
    if prior == 0:  # log K less the entropy of the mean
        torch.testing.assert_close(pretext.divergence(torch.eye(6)), torch.tensor(0.0))
        torch.testing.assert_close(pretext.divergence(torch.eye(6)[:3]), torch.tensor(2.0).log())


def test_msns_prototypes_permute_freely_do_not_decay_and_its_teacher_follows_once_a_step(make):
    pretext = task()
    views = pretext.views(batch(), context())
    value, q = pretext(views).value, pretext.head.prototypes.weight.data
    q.copy_(q[torch.randperm(6)])
    torch.testing.assert_close(pretext(views).value, value)
    learner = make("pretext=msn", "pretext.local_views=1", "accumulate=2", "evaluator=none").learner
    pretext, (group,) = learner.pretext, learner.optimizers.values()
    assert pretext.trained() is pretext.teacher_encoder
    before = pretext.teacher_projector[0].weight.clone()
    learner.step(3)
    share = 0.01 * (math.cos(math.pi / 4) + 1) / 2
    torch.testing.assert_close(
        pretext.teacher_projector[0].weight, before.lerp(pretext.head.projector[0].weight, share)
    )
    decays = {id(p): each["weight_decay"] for each in group.optimizer.param_groups for p in each["params"]}
    assert decays[id(pretext.head.prototypes.weight)] == 0 < decays[id(pretext.head.projector[0].weight)]


def test_msn_needs_an_encoder_that_drops_tokens_and_keeps_one():
    with pytest.raises(ValueError, match="Conv cannot drop tokens; use model=vit_tiny"):
        task(encoder=Conv())
    assert task(drop=0.99).views(batch(), context())[2].shape == (8, 1)
    assert len(task(local_views=0).views(batch(), context())) == 3
