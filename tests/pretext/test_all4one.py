"""All4One: its three losses by the formulas of its parts, who gets gradient, the support set and the teacher."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import Conv, batch, context, gradients, number, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.pretext.all4one import All4One, redundancy


def task(**settings) -> All4One:
    torch.manual_seed(0)
    small = {"hidden": 16, "out": 8, "heads": 2, "depth": 2, "queue": 20, "neighbours": 3}
    views = {"augment": Views(scale=(0.5, 1.0)), "augment_prime": Views(scale=(0.3, 1.0))}
    return All4One(**{"encoder": Conv(), **views, **small, **settings}).train()


def contrast(query, key, temperature):
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    return -logits.log_softmax(1).diagonal().mean()


def correlations(z, teacher):
    return torch.stack([torch.stack([F.cosine_similarity(t, each, dim=0) for each in z.T]) for t in teacher.T])


def parts(pretext, views):
    """The losses of the nearest neighbour, of mixed ones and of dimensions, sample by sample."""
    z = [pretext.projector(pretext.encoder(view).pooled) for view in views]
    teacher = [F.normalize(pretext.teacher_projector(pretext.teacher_encoder(view).pooled), dim=1) for view in views]
    rows, positions = pretext.support.rows, pretext.positions
    near = [torch.stack([rows[(rows @ row).argsort(descending=True)[:3]] for row in each]) for each in teacher]
    mixed = [pretext.transformer(each + positions)[:, 0] for each in near]
    shifted = []
    for each, own in zip(near, z, strict=True):
        first = pretext.mixed_predictor(own)
        tokens = torch.stack([torch.stack([p, n[0], n[1]]) for p, n in zip(first, each, strict=True)])
        shifted.append(pretext.transformer(tokens + positions)[:, 0])
    one = [contrast(near[i][:, 0], pretext.predictor(z[1 - i]), 0.2) for i in range(2)]
    several = [contrast(mixed[i], shifted[1 - i], 0.1) for i in range(2)]
    c = [correlations(z[1 - i], teacher[i]) for i in range(2)]
    others = ~torch.eye(8, dtype=torch.bool)
    on = torch.stack([(1 - each.diagonal()).square().mean() for each in c]).mean().sqrt()
    off = torch.stack([each[others].square().mean() for each in c]).mean().sqrt()
    return sum(one) / 2, sum(several) / 2, (on + off) / 2


def test_the_loss_is_that_of_the_nearest_neighbour_of_mixed_ones_and_of_dimensions():
    pretext = task()
    wander(pretext.teacher_encoder, pretext.teacher_projector)
    views = pretext.views(batch(), context())
    loss, expected = pretext(views), parts(pretext, views)
    metrics = [loss.metrics[name] for name in ("neighbour", "attention", "redundancy")]
    torch.testing.assert_close(metrics, [each.detach() for each in expected])
    torch.testing.assert_close(loss.value, 0.5 * expected[0] + 0.5 * expected[1] + 5 * expected[2])
    order = torch.randperm(20)
    pretext.support.rows.copy_(pretext.support.rows[order])
    torch.testing.assert_close(pretext(views).value, loss.value)


WHO = {
    "neighbour_weight": {"predictor"},
    "attention_weight": {"mixed_predictor", "transformer"},
    "redundancy_weight": set(),
}


@pytest.mark.parametrize("weight", WHO)
def test_each_loss_reaches_its_own_parts_and_the_encoder_and_never_the_teacher(weight):
    pretext = task(**{each: float(each == weight) for each in WHO})
    pretext(pretext.views(batch(), context())).value.backward()
    reached = {name.partition(".")[0] for name, size in gradients(pretext).items() if size is not None and size > 1e-6}
    assert reached == {"encoder", "projector"} | WHO[weight]


def test_redundancy_is_least_where_dimensions_agree_and_differ_and_knows_no_scale(rng):
    independent = torch.linalg.qr(torch.randn(12, 4, generator=rng)).Q
    assert number(redundancy(*[independent] * 4)) < 1e-5
    same = independent[:, :1].expand(-1, 4)
    assert number(redundancy(*[same] * 4)) == pytest.approx(0.5, abs=1e-5)  # all C_ij are 1
    assert number(redundancy(same, -same, same, -same)) == pytest.approx(1.5, abs=1e-5)
    z = torch.randn(4, 12, 4, generator=rng)
    scale, rows = torch.rand(4, generator=rng) + 0.1, torch.randperm(12)
    torch.testing.assert_close(redundancy(*(z * scale)[:, rows]), redundancy(*z))
    assert redundancy(*torch.zeros(4, 12, 4)).isfinite()


@pytest.mark.parametrize("mistake", [False, True])
def test_keys_enter_after_their_own_loss_or_each_is_its_own_neighbour(mistake):
    pretext = task(queue=40)
    views = pretext.views(batch(), context())
    first = pretext(views)
    if mistake:
        pretext.support.enqueue(first.kept["keys"])
    keys = first.kept["keys"]
    own = (pretext.nearest(keys)[:, 0] * keys).sum(1)
    assert (number(own.min()) > 0.9999) == mistake
    old = pretext.support.rows.clone()
    pretext(views)
    assert torch.equal(pretext.support.rows, old)
    if not mistake:
        pretext.after_step(context(), first.kept)
        torch.testing.assert_close(pretext.support.rows, torch.cat([keys, old[8:]]))


def test_the_teacher_follows_once_a_step_and_a_collapse_costs_the_log_of_the_batch(make):
    learner = make("pretext=all4one", "accumulate=2", "evaluator=none").learner
    pretext = learner.pretext
    before = pretext.teacher_projector[0].weight.clone()
    learner.step(3)
    share = 0.01 * (math.cos(math.pi / 4) + 1) / 2
    torch.testing.assert_close(pretext.teacher_projector[0].weight, before.lerp(pretext.projector[0].weight, share))
    assert int(pretext.support.place) == 16
    pretext = task()
    x = batch(1).x.expand(8, -1, -1, -1)
    loss = pretext((x, x))
    assert number(loss.metrics["neighbour"]) == pytest.approx(math.log(8), rel=1e-4)
    assert number(loss.metrics["attention"]) == pytest.approx(math.log(8), rel=1e-4)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"out=9 must be even and a multiple of pretext\.heads=2"):
        task(out=9)
    with pytest.raises(ValueError, match=r"queue=2 has no 3 neighbours"):
        task(queue=2)
