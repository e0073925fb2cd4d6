"""DenseCL: places of two views matched by features, two queues, losses by their equations."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import Conv, batch, context, number, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Features
from ssl_runner.pretext.densecl import DenseCL, corresponding

CROPS = Views(scale=(0.5, 1.0))


def densecl(**settings) -> DenseCL:
    torch.manual_seed(0)
    given = {"encoder": Conv(), "augment": CROPS, "hidden": 16, "out": 8, "negatives": 20}
    return DenseCL(**given | settings).train()


def test_a_place_corresponds_to_the_one_of_the_nearest_direction():
    query = torch.tensor([[[2.0, 0.1], [0.0, 1.0], [1.0, 1.0]]])
    key = torch.tensor([[[0.0, 9.0], [0.5, 0.6], [0.1, 0.0]]])  # lengths play no part
    values = torch.tensor([[[1.0], [2.0], [3.0]]])
    assert corresponding(query, key, values).flatten().tolist() == [3.0, 1.0, 2.0]
    torch.testing.assert_close(corresponding(query, key.flip(1), values.flip(1)), corresponding(query, key, values))


def test_places_correspond_under_autocast_as_without(rng):
    query = 1 + 0.05 * torch.randn(1, 16, 64, generator=rng)
    key = query + 0.01 * torch.randn(1, 16, 64, generator=rng)
    place = torch.arange(16.0).view(1, 16, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(corresponding(query, key, place), place)


def by_hand(pretext: DenseCL, views: tuple, matched_by: str = "backbone") -> tuple[float, float]:
    """The two losses by loops in float64; `heads` is the wrong way to match places."""
    with torch.no_grad():
        q, k = pretext.encoder(views[0]), pretext.key_encoder(views[1])
        r, t = pretext.dense_projector(q.tokens).double(), pretext.key_dense_projector(k.tokens).double()
        z, z_key = pretext.projector(q.pooled).double(), pretext.key_projector(k.pooled).double()
    near = (q.tokens.double(), k.tokens.double()) if matched_by == "backbone" else (r, t)

    def cost(query, positive, queue):
        logits = [F.cosine_similarity(query, each.double(), dim=0) / pretext.temperature for each in (positive, *queue)]
        return float(torch.stack(logits).logsumexp(0) - logits[0])

    single = [cost(a, b, pretext.queue.rows) for a, b in zip(z, z_key, strict=True)]
    dense = []
    for i in range(len(z)):
        for s in range(r.shape[1]):
            best = max(range(t.shape[1]), key=lambda j: float(F.cosine_similarity(near[0][i, s], near[1][i, j], dim=0)))
            dense.append(cost(r[i, s], t[i, best], pretext.dense_queue.rows))
    return sum(single) / len(single), sum(dense) / len(dense)


def test_densecls_loss_is_the_equations_over_samples_and_places():
    pretext = densecl(dense_weight=0.3)
    wander(pretext.key_encoder, pretext.key_dense_projector)
    views = pretext.views(batch(4), context())
    loss, (single, dense) = pretext(views), by_hand(pretext, views)
    assert number(loss.value) == pytest.approx(0.7 * single + 0.3 * dense, rel=1e-5)
    wrong = by_hand(pretext, views, "heads")[1]
    assert abs(wrong - dense) > 1e-3, "matched by what the heads make of places"


def test_densecls_keys_enter_their_queues_after_the_loss_and_dense_ones_as_the_mean_of_places():
    pretext = densecl()
    views = pretext.views(batch(), context())
    first, old = pretext(views), pretext.dense_queue.rows.clone()
    assert torch.equal(pretext(views).value, first.value), "the forward pass takes in no key"
    t = pretext.key_dense_projector(pretext.key_encoder(views[1]).tokens)
    pretext.after_step(context(), first.kept)
    torch.testing.assert_close(pretext.dense_queue.rows, torch.cat([F.normalize(t.mean(1), dim=1), old[8:]]))
    torch.testing.assert_close(pretext.queue.rows[:8], first.kept["keys"])
    assert pretext(views).value > first.value + 0.1, "a key that is in the queue already is its own query's negative"


class Shuffled(Conv):
    """Its places in another order."""

    def forward(self, x, keep=None):
        features = super().forward(x)
        return Features(features.pooled, features.tokens.roll(3, 1), features.grid)


def test_the_order_of_the_other_views_places_plays_no_part():
    pretext = densecl()
    views = pretext.views(batch(), context())
    value = pretext(views).value
    pretext.key_encoder.__class__ = Shuffled
    torch.testing.assert_close(pretext(views).value, value)


def test_a_collapse_of_densecl_costs_the_log_of_what_is_to_be_told_apart():
    pretext = densecl()
    for head in (pretext.projector, pretext.key_projector, pretext.dense_projector, pretext.key_dense_projector):
        torch.nn.init.zeros_(head[-1].weight)
        torch.nn.init.ones_(head[-1].bias)
    for step in range(4):
        loss = pretext(pretext.views(batch(), context(step)))
        pretext.after_step(context(step), loss.kept)
    assert number(loss.value) == pytest.approx(math.log(21), rel=1e-5)  # one key and a queue of 20


def test_densecls_key_networks_follow_once_a_step_and_both_queues_take_all_micro_batches(make):
    words = ("accumulate=4", "evaluator=none", "pretext.negatives=16", "pretext.momentum=0.9")
    learner, keys = make("pretext=densecl", *words).learner, []
    pretext = learner.pretext
    pretext.key_dense_projector.register_forward_hook(lambda _, __, output: keys.append(output.mean(1)))
    before = [p.clone() for p in pretext.key_dense_projector.parameters()]
    learner.step(0)
    torch.testing.assert_close(pretext.dense_queue.rows, F.normalize(torch.cat(keys), dim=1))
    trained = pretext.dense_projector.parameters()
    for was, now, towards in zip(before, pretext.key_dense_projector.parameters(), trained, strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * towards)
