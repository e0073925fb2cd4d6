"""MoCo v2: the loss meets the old queue, keys enter after the step, and the key network is a moving average."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from toys import Conv, batch, colours, context, gradients, number, train, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.engine.trainer import Trainer
from ssl_runner.loss.info_nce import info_nce, nt_xent
from ssl_runner.pretext.moco_v2 import MoCoV2


def moco(**settings) -> MoCoV2:
    torch.manual_seed(0)
    settings = {"augment": Views(scale=(0.5, 1.0)), "hidden": 16, "out": 8, "negatives": 20, **settings}
    return MoCoV2(encoder=Conv(), **settings).train()


def test_loss_is_that_of_queries_against_their_keys_and_the_old_queue():
    pretext = moco()
    wander(pretext.key_encoder)
    first, second = views = pretext.views(batch(), context())
    assert not torch.equal(first, second)
    old = pretext.queue.rows.clone()
    loss = pretext(views)
    query = F.normalize(pretext.projector(pretext.encoder(first).pooled), dim=1)
    key = F.normalize(pretext.key_projector(pretext.key_encoder(second).pooled), dim=1)
    torch.testing.assert_close(loss.value, info_nce(query, key, old, pretext.temperature)[0])
    torch.testing.assert_close(loss.kept["keys"], key)
    torch.testing.assert_close(F.normalize(loss.embedding, dim=1), query)
    assert torch.equal(pretext.queue.rows, old), "a key that is in the queue already is its own query's negative"
    pretext.after_step(context(), loss.kept)
    torch.testing.assert_close(pretext.queue.rows[:8], key)
    assert torch.equal(pretext.queue.rows[8:], old[8:])
    assert not torch.isclose(pretext(views).value, loss.value)


def test_keys_have_no_gradient_and_their_network_follows_at_a_constant_momentum():
    pretext = moco(momentum=0.9)
    loss = pretext(pretext.views(batch(), context()))
    loss.value.backward()
    missing = {name.split(".")[0] for name, g in gradients(pretext).items() if g is None}
    assert missing == {"key_encoder", "key_projector"}
    wander(pretext.encoder, pretext.projector)
    pairs = [(pretext.key_encoder, pretext.encoder), (pretext.key_projector, pretext.projector)]
    before = [[p.clone() for p in key.parameters()] for key, _ in pairs]
    pretext.after_step(context(step=90), loss.kept)
    for old, (key, query) in zip(before, pairs, strict=True):
        for was, now, towards in zip(old, key.parameters(), query.parameters(), strict=True):
            torch.testing.assert_close(now, 0.9 * was + 0.1 * towards)


def test_batch_norm_statistics_of_queries_and_keys_stay_apart():
    pretext = moco()
    dark, bright = torch.zeros(8, 3, 8, 8), torch.ones(8, 3, 8, 8)
    pretext.after_step(context(), pretext((dark, bright)).kept)
    means = pretext.encoder.norm.running_mean, pretext.key_encoder.norm.running_mean
    assert (means[0] * means[1] < 0).any()
    assert not torch.allclose(*means)


def test_a_collapse_costs_log_of_one_and_the_queue():
    pretext = moco()
    for projector in (pretext.projector, pretext.key_projector):
        torch.nn.init.zeros_(projector[-1].weight)
        torch.nn.init.ones_(projector[-1].bias)
    for step in range(3):
        loss = pretext(pretext.views(batch(), context(step)))
        pretext.after_step(context(step), loss.kept)
    assert number(pretext(pretext.views(batch(), context())).value) == pytest.approx(math.log(21), rel=1e-5)


def test_all_micro_batches_enter_the_queue_in_order(make: Callable[..., Trainer]):
    """And the queue may be shorter than a batch."""
    learner = make("pretext=moco_v2", "accumulate=4", "pretext.negatives=7", "evaluator=none").learner
    pretext, seen = learner.pretext, []
    forward = pretext.forward

    def spy(views, group="main"):
        loss = forward(views, group)
        seen.append(loss.kept["keys"])
        return loss

    pretext.forward = spy
    learner.step(0)
    assert [len(each) for each in seen] == [4] * 4
    oldest_first = pretext.queue.rows.roll(-int(pretext.queue.place), 0)
    torch.testing.assert_close(oldest_first, torch.cat(seen)[-7:])


@pytest.mark.parametrize("paired", [True, False])
def test_what_views_share_is_found(paired):
    """Brightness and contrast change from view to view, the hue stays: it is found, but not from pairs without one."""
    light = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)
    pretext = moco(augment=light, temperature=0.1, momentum=0.9, hidden=32, out=16, negatives=100)
    train(pretext, 120, colours, spoil=lambda v: v if paired else (v[0], v[1].roll(1, 0)))
    pretext.eval()
    with torch.no_grad():
        unseen, found = Batch(colours(-1, 64), torch.arange(64)), []
        for seed in range(20):
            z = pretext.projector(pretext.encoder(torch.cat(pretext.views(unseen, context(seed)))).pooled)
            found.append(nt_xent(z, 0.1)[1].float().mean())
    accuracy = torch.stack(found).mean()
    assert (accuracy > 0.17) if paired else (accuracy < 0.14), accuracy


def test_suspects_are_its_own_settings():
    assert not moco().suspects()
    for settings in ({"momentum": 0.0}, {"temperature": 2.0}, {"temperature": 0.01}):
        (suspect,) = moco(**settings).suspects()
        assert next(iter(settings)) in suspect.cause
