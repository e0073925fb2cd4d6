"""SwAV: who is assigned and who predicts, prototypes, queues, and what goes wrong without equal shares."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, colours, context, number, train

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Pretext
from ssl_runner.duration import Duration
from ssl_runner.loss.sinkhorn import sinkhorn
from ssl_runner.pretext.swav import SwAV


def task(**settings) -> SwAV:
    torch.manual_seed(0)
    small = {"hidden": 16, "out": 8, "prototypes": 6, "queue": 20, "local_views": 3}
    views = {"augment": Views(scale=(0.5, 1.0)), "augment_local": Views(scale=(0.2, 0.5))}
    return SwAV(**{"encoder": Conv(), "shape": SHAPE, **views, **small, **settings}).train()


def step(pretext: Pretext, number_of: int = 0, steps: int = 100):
    """The loss of a step, with its hooks."""
    ctx = context(number_of, number_of, steps)
    pretext.before_step(ctx)
    loss = pretext(pretext.views(batch(seed=number_of), ctx))
    pretext.after_step(ctx, loss.kept)
    return loss


def cross_entropy(q, scores, temperature):
    return -(q * (scores / temperature).log_softmax(-1)).sum(-1).mean()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_swavs_loss_is_the_swapped_prediction_of_every_other_view(weight):
    pretext = task()
    pretext.queue_weight.fill_(weight)
    views = pretext.views(batch(), context())
    assert [tuple(view.shape) for view in views] == [(16, 3, 8, 8), (24, 3, 4, 4)]
    loss = pretext(views)
    z = pretext.head.projector(torch.cat([pretext.encoder(view).pooled for view in views]))
    c = pretext.head.prototypes.weight
    scores = (F.normalize(z, dim=1) @ c.T).unflatten(0, (5, 8))
    earlier = [queue.rows @ c.T for queue in pretext.queues]
    q = [sinkhorn(s / 0.05, 3, e / 0.05 if weight else None) for s, e in zip(scores, earlier, strict=False)]
    pairs = [cross_entropy(q[i], scores[v], 0.1) for i in range(2) for v in range(5) if v != i]
    torch.testing.assert_close(loss.value, torch.stack(pairs).mean())
    torch.testing.assert_close(loss.embedding, z[:16])
    loss.value.backward()  # an assignment has no gradient: that of fixed ones is the same
    fixed = [cross_entropy(q[i].detach(), scores[v], 0.1) for i in range(2) for v in range(5) if v != i]
    (expected,) = torch.autograd.grad(torch.stack(fixed).mean(), c)
    torch.testing.assert_close(c.grad, expected)


def test_swavs_prototypes_are_of_length_one_before_a_step_and_permute_freely():
    pretext = task(queue=0)
    c = pretext.head.prototypes.weight
    torch.testing.assert_close(c.norm(dim=1), torch.ones(6))
    before = step(pretext).value
    c.data.mul_(torch.arange(1.0, 7)[:, None])
    assert not torch.isclose(pretext(pretext.views(batch(), context())).value, before)  # lengths count within a step
    torch.testing.assert_close(step(pretext).value, before)
    c.data.copy_(c[torch.randperm(6)])
    torch.testing.assert_close(step(pretext).value, before)


def test_swavs_collapse_costs_the_log_of_the_prototypes():
    pretext = task(queue=0)
    x = batch(1).x.expand(8, -1, -1, -1)
    c = pretext.head.prototypes.weight.data
    c.copy_(c[:1].expand_as(c).clone())
    loss = pretext((x.repeat(2, 1, 1, 1), x[..., ::2, ::2].repeat(3, 1, 1, 1)))
    assert number(loss.value) == pytest.approx(math.log(6), rel=1e-5)


def test_swavs_queues_take_projections_after_the_step_and_count_once_they_are_full_and_due():
    pretext = task(queue=20, queue_starts=Duration(5, "st"))
    old, weights = [queue.rows.clone() for queue in pretext.queues], []
    for number_of in range(8):
        loss = step(pretext, number_of)
        weights.append(number(pretext.queue_weight))
        if number_of == 0:
            rows = F.normalize(loss.embedding, dim=1).detach().chunk(2)
            for queue, each, was in zip(pretext.queues, rows, old, strict=True):
                torch.testing.assert_close(queue.rows, torch.cat([each, was[8:]]))
    assert weights == [0, 0, 0, 0, 0, 1, 1, 1]
    pretext = task(queue=20, queue_starts=Duration(0, "%"))
    step(pretext, 2), weights.append(number(pretext.queue_weight))
    step(pretext, 3), weights.append(number(pretext.queue_weight))
    assert weights[-2:] == [0, 1]  # 16 rows of 20 are real ones, and then 24


def test_swavs_prototypes_are_frozen_at_the_start(make):
    words = ("pretext.freeze=2st", "pretext.local_views=0", "optimizer.warm_up=0%", "evaluator=none")
    learner = make("pretext=swav", *words).learner
    c = learner.pretext.head.prototypes.weight
    learner.pretext.head.prototypes.normalise()
    for number_of in range(3):
        before = c.detach().clone()
        learner.step(number_of)
        assert torch.allclose(c, before) == (number_of < 2)


@pytest.mark.parametrize("mistake", [False, True])
def test_swav_finds_what_views_share_unless_assignments_may_collapse(mistake, monkeypatch):
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    pretext = task(augment=crops, augment_local=crops, prototypes=16, hidden=32, queue=64)
    if mistake:  # no equal shares
        monkeypatch.setattr(pretext, "assign", lambda scores, others: (scores.detach() / 0.05).softmax(1))
        pretext.head.prototypes.weight.data.copy_(pretext.head.prototypes.weight[:1] + 0.05 * torch.randn(16, 8))
    train(pretext, 80, colours)
    with torch.no_grad():
        x, local = pretext.views(Batch(colours(-1, 64), torch.arange(64)), context(7))
        paired, other = (pretext((each, local[:0])) for each in (x, torch.cat([x[:64], x[64:].roll(1, 0)])))
    learnt = number(paired.value) < 0.6 * number(other.value) and number(paired.metrics["perplexity"]) > 4
    assert learnt != mistake, (paired, other)
