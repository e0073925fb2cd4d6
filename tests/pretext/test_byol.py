"""BYOL: its loss by hand, the target without gradient, the schedule of its momentum."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import Conv, batch, colours, context, gradients, number, train, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.pretext.byol import BYOL, distance


def byol(**settings) -> BYOL:
    torch.manual_seed(0)
    augment, prime = Views(scale=(0.5, 1.0)), Views(scale=(0.5, 1.0), solarise=0.2)
    return BYOL(encoder=Conv(), augment=augment, augment_prime=prime, hidden=16, out=8, **settings).train()


def test_distance_by_hand():
    p = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]])
    t = torch.tensor([[1.0, 0.0], [0.5, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert number(distance(p, t)) == pytest.approx((0 + 2 + 4 + 2 - math.sqrt(2)) / 4)
    unit = [F.normalize(each, dim=1) for each in (p, t)]
    torch.testing.assert_close(distance(p, t), (unit[0] - unit[1]).square().sum(1).mean())  # equation 2 as written


def test_loss_is_symmetrised_and_views_do_not_mix():
    pretext = byol()
    first, second = pretext.views(batch(), context())
    loss = pretext((first, second))
    torch.testing.assert_close(pretext((second, first)).value, loss.value)
    assert 0 <= loss.value <= 8
    torch.testing.assert_close(pretext((first, first)).embedding[:8], loss.embedding[:8])  # batch norm a view
    pretext.predictor = nn.Identity()  # a target equal to its student then agrees with it
    assert number(pretext((first, first)).value.detach()) == pytest.approx(0, abs=1e-5)
    assert 0 < number(loss.metrics["spread"]) < 1.2
    assert number(pretext((first[:1].expand(8, -1, -1, -1),) * 2).metrics["spread"]) < 1e-3


def test_target_wants_no_gradient_and_the_embedding_is_not_its():
    pretext = byol()
    views = pretext.views(batch(), context())
    wander(pretext.target_encoder)  # away from its student, so that it is a function of its own weights only
    loss = pretext(views)
    loss.value.backward()
    grads = gradients(pretext)
    assert {name.split(".")[0] for name, g in grads.items() if g is None} == {"target_encoder", "target_projector"}
    for module in (pretext.target_encoder, pretext.target_projector):
        wander(module)
        moved = pretext(views)
        assert torch.equal(moved.embedding, loss.embedding)
        assert not torch.isclose(moved.value, loss.value)
        loss = moved


def test_target_follows_by_the_schedule():
    pretext = byol(momentum=0.9)
    online = [*pretext.encoder.parameters(), *pretext.projector.parameters()]
    target = [*pretext.target_encoder.parameters(), *pretext.target_projector.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(online, target, strict=True))
    before = [p.clone() for p in target]
    wander(pretext.encoder, pretext.projector)
    pretext.after_step(context(step=25, steps=100), {})
    m = 1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2
    for old, now, student in zip(before, target, online, strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * student)


def test_it_finds_what_views_share_and_does_not_collapse():
    torch.manual_seed(0)
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    pretext = BYOL(encoder=Conv(), augment=crops, augment_prime=crops, momentum=0.9, hidden=32, out=16)
    train(pretext, 60, colours)
    pretext.eval()
    unseen = colours(-1, 64)
    with torch.no_grad():
        first, second = pretext.views(Batch(unseen, torch.arange(64)), context(7))
        paired, mixed = (pretext((first, other)) for other in (second, second.roll(1, 0)))
    assert paired.value < 0.3 * mixed.value
    assert paired.metrics["spread"] > 0.5
