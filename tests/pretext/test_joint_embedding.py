"""SimCLR, MoCo v2, BYOL and DINO: losses by their equations, who sees which view, teachers, and what views share."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import SHAPE, Conv, batch, colours, context, number, still, train, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Pretext
from ssl_runner.duration import Duration
from ssl_runner.loss.distillation import view_cross_entropy
from ssl_runner.loss.info_nce import info_nce, nt_xent
from ssl_runner.model.convnet import ConvNet
from ssl_runner.model.vit import ViT
from ssl_runner.pretext.byol import BYOL, distance
from ssl_runner.pretext.dino import DINO
from ssl_runner.pretext.moco_v2 import MoCoV2
from ssl_runner.pretext.simclr import SimCLR

CROPS, SMALL = Views(scale=(0.5, 1.0)), Views(scale=(0.2, 0.5))
LOCAL = {"augment_prime": CROPS, "augment_local": SMALL, "local_views": 3, "shape": SHAPE}
KINDS = {
    "simclr": (SimCLR, {"hidden": 16, "out": 8}),
    "moco_v2": (MoCoV2, {"hidden": 16, "out": 8, "negatives": 20}),
    "byol": (BYOL, {"hidden": 16, "out": 8, "augment_prime": Views(scale=(0.5, 1.0), solarise=0.2)}),
    "dino": (DINO, {"hidden": 16, "bottleneck": 8, "prototypes": 12, **LOCAL}),
}


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": Conv(), "augment": CROPS, **own, **settings}).train()


def test_simclr_encodes_both_views_at_once_and_draws_each():
    pretext, passes = task("simclr"), []
    first, second = pretext.views(batch(), context())
    assert not torch.equal(first, second)
    pretext.encoder.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    loss = pretext((first, second))
    assert passes == [16]
    torch.testing.assert_close(loss.value, nt_xent(loss.embedding, pretext.temperature)[0])


def test_moco_tells_queries_keys_from_the_old_queue_and_then_takes_them_in():
    pretext = task("moco_v2")
    wander(pretext.key_encoder)
    first, second = views = pretext.views(batch(), context())
    assert not torch.equal(first, second)
    old, loss = pretext.queue.rows.clone(), pretext(views)
    query = F.normalize(pretext.projector(pretext.encoder(first).pooled), dim=1)
    key = F.normalize(pretext.key_projector(pretext.key_encoder(second).pooled), dim=1)
    torch.testing.assert_close(loss.value, info_nce(query, key, old, pretext.temperature)[0])
    torch.testing.assert_close((loss.kept["keys"], F.normalize(loss.embedding, dim=1)), (key, query))
    assert torch.equal(pretext.queue.rows, old), "a key that is in the queue already is its own query's negative"
    pretext.after_step(context(), loss.kept)
    torch.testing.assert_close(pretext.queue.rows, torch.cat([key, old[8:]]))
    assert not torch.isclose(pretext(views).value, loss.value)


def test_a_collapse_costs_the_log_of_what_is_to_be_told_apart():
    pretext = task("moco_v2")
    for projector in (pretext.projector, pretext.key_projector):
        nn.init.zeros_(projector[-1].weight)
        nn.init.ones_(projector[-1].bias)
    for step in range(4):
        loss = pretext(pretext.views(batch(), context(step)))
        pretext.after_step(context(step), loss.kept)
    assert number(loss.value) == pytest.approx(math.log(21), rel=1e-5)  # one key and a queue of 20
    pretext = task("dino")
    for head in (pretext.head, pretext.teacher_head):
        head.prototypes.weight.data = head.prototypes.weight.data[:1].expand(12, -1).clone()
    loss = pretext(pretext.views(batch(), context()))
    assert number(loss.value) == number(loss.metrics["entropy"]) == pytest.approx(math.log(12), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "network", "word"),
    [("moco_v2", "key_projector", "pretext.negatives=7"), ("dino", "teacher_head", "pretext.local_views=1")],
)
def test_all_micro_batches_enter_the_queue_in_order_and_the_centre_at_once(name, network, word, make):
    learner, seen = make(f"pretext={name}", "accumulate=4", "evaluator=none", word).learner, []
    pretext = learner.pretext
    getattr(pretext, network).register_forward_hook(lambda module, inputs, output: seen.append(output))
    learner.step(0)
    assert [len(each) for each in seen] == [8 if name == "dino" else 4] * 4
    if name == "dino":
        torch.testing.assert_close(pretext.centre, 0.1 * torch.cat(seen).mean(0))
    else:  # a queue may be shorter than a batch
        oldest_first = pretext.queue.rows.roll(-int(pretext.queue.place), 0)
        torch.testing.assert_close(oldest_first, F.normalize(torch.cat(seen)[-7:], dim=1))


def test_byols_loss_by_hand_is_symmetrised_and_neither_views_mix_nor_target_and_embedding():
    p = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]])
    t = torch.tensor([[1.0, 0.0], [0.5, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert number(distance(p, t)) == pytest.approx((0 + 2 + 4 + 2 - math.sqrt(2)) / 4)
    unit = [F.normalize(each, dim=1) for each in (p, t)]
    torch.testing.assert_close(distance(p, t), (unit[0] - unit[1]).square().sum(1).mean())  # equation 2 as written
    pretext = task("byol")
    first, second = pretext.views(batch(), context())
    loss = pretext((first, second))
    torch.testing.assert_close(pretext((second, first)).value, loss.value)
    assert 0 <= loss.value <= 8
    torch.testing.assert_close(pretext((first, first)).embedding[:8], loss.embedding[:8])  # batch norm a view
    pretext.predictor = nn.Identity()  # a target equal to its student then agrees with it
    assert number(pretext((first, first)).value) == pytest.approx(0, abs=1e-5)
    assert 0 < number(loss.metrics["spread"]) < 1.2
    assert number(pretext((first[:1].expand(8, -1, -1, -1),) * 2).metrics["spread"]) < 1e-3
    pretext = task("byol")  # its target makes the loss and no part of the embedding
    wander(pretext.target_encoder)  # away from its student, so that it is a function of its own weights only
    views = pretext.views(batch(), context())
    loss = pretext(views)
    for module in (pretext.target_encoder, pretext.target_projector):
        wander(module)
        moved = pretext(views)
        assert torch.equal(moved.embedding, loss.embedding)
        assert not torch.isclose(moved.value, loss.value)
        loss = moved


def test_dinos_teacher_sees_two_global_views_and_its_student_all():
    pretext = task("dino")
    views = pretext.views(batch(), context())
    sizes = [tuple(view.shape) for view in views]
    assert sizes == [(16, 3, 8, 8), (24, 3, 4, 4)]
    assert len(torch.cat([view.flatten(1)[:, :48] for view in views]).unique(dim=0)) == 40  # each has its own draw
    seen = {"encoder": [], "teacher_encoder": []}
    for name, passes in seen.items():
        getattr(pretext, name).register_forward_hook(lambda _, inputs, __, p=passes: p.append(tuple(inputs[0].shape)))
    pretext(views)
    assert seen == {"encoder": sizes, "teacher_encoder": sizes[:1]}
    (alone,) = task("dino", local_views=0).views(batch(), context())
    assert torch.equal(alone, views[0])


def test_dinos_loss_is_the_equation_of_centred_and_sharpened_targets():
    pretext = task("dino")
    wander(pretext.teacher_encoder, pretext.teacher_head)
    pretext.centre.normal_()
    views = pretext.views(batch(), context())
    loss, centre = pretext(views), pretext.centre.clone()
    logits = pretext.teacher_head(pretext.teacher_encoder(views[0]).pooled)
    targets = ((logits - centre) / 0.04).softmax(1)
    student = torch.cat([pretext.head(pretext.encoder(view).pooled) for view in views])
    expected = view_cross_entropy(targets.unflatten(0, (2, 8)), student.unflatten(0, (5, 8)), 0.1)
    torch.testing.assert_close(loss.value, expected)
    entropy = -(targets * targets.log()).sum(1).mean()
    torch.testing.assert_close(loss.metrics["entropy"], entropy.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.metrics["divergence"], (expected - entropy).detach(), rtol=1e-3, atol=1e-4)
    assert loss.embedding.shape == (16, 12)  # the features of the global views
    pretext.centre.add_(5.0)  # a constant is taken off, and the forward pass moves no centre
    torch.testing.assert_close(pretext(views).value, loss.value)
    assert torch.equal(pretext.centre, centre + 5)


def test_dinos_prototypes_are_frozen_at_the_start_and_the_teacher_is_what_is_trained(make):
    papers = ("optimizer.final_weight_decay=0.4", "optimizer.clip_each=3", "optimizer.warm_up=0%")
    learner = make("pretext=dino", "pretext.freeze=2st", "pretext.local_views=1", *papers, "evaluator=none").learner
    pretext, always = learner.pretext, ("encoder.layers.0", "head.projector.0", "teacher_encoder.layers.0")
    assert pretext.trained() is pretext.teacher_encoder is not pretext.encoder
    for step in range(3):
        before = {name: p.detach().clone() for name, p in pretext.named_parameters()}
        learner.step(step)
        moved = {name for name, p in pretext.named_parameters() if not torch.equal(p, before[name])}
        assert ("head.prototypes.weight" in moved) == (step == 2)
        assert {f"{layer}.weight" for layer in always} <= moved


@pytest.mark.parametrize(
    ("share", "step", "expected"), [(40, 0, 0.03), (40, 10, 0.04), (40, 40, 0.07), (40, 99, 0.07), (0, 0, 0.07)]
)
def test_dinos_temperature_of_the_teacher_warms_up_along_a_line(share, step, expected):
    warm_up = {"first_teacher_temperature": 0.03, "temperature_warm_up": Duration(share, "%")}
    pretext = task("dino", teacher_temperature=0.07, **warm_up)
    pretext.before_step(context(step=step))
    assert number(pretext.sharpness) == pytest.approx(expected)


@pytest.mark.parametrize(("local", "size", "side"), [(None, None, 16), (None, 48, 24), (12, None, 12), (12, 48, 12)])
def test_dinos_local_views_have_half_the_side_of_global_ones(local, size, side):
    given, shape = still(size=size), (3, 32, 40)
    pretext = task("dino", shape=shape, augment=given, augment_prime=given, augment_local=still(size=local))
    sizes = [tuple(view.shape[2:]) for view in pretext.views(batch(2, shape=shape), context())]
    assert sizes == [(size, size) if size else (32, 40), (side, side)]


def test_dino_refuses_what_cannot_be_encoded_with_what_to_type():
    colour = {"shape": SHAPE, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    convnet = ConvNet(**colour, widths=(4, 4, 4))
    with pytest.raises(ValueError, match=r"ConvNet .* 4x4 px .*\.augment_local\.size=8 or pretext\.local_views=0"):
        task("dino", encoder=convnet)
    assert task("dino", encoder=convnet, local_views=0).encoder is convnet
    with pytest.raises(ValueError, match=r"differ in size, None and 4 px; type pretext\.augment_prime\.size=null"):
        task("dino", augment_prime=still(size=4))
    pretext = task("dino", encoder=ViT(**colour, width=8, depth=1, heads=2, patch=2))  # which takes both sizes
    pretext(pretext.views(batch(), context())).value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.encoder.parameters())


COSINE = 1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2
TEACHERS = [("moco_v2", "key", "projector", 0.9), ("byol", "target", "projector", COSINE)]
TEACHERS.append(("dino", "teacher", "head", COSINE))


@pytest.mark.parametrize(("name", "prefix", "head", "momentum"), TEACHERS)
def test_a_teacher_starts_as_its_student_follows_it_and_keeps_its_own_statistics(name, prefix, head, momentum):
    pretext = task(name, momentum=0.9)
    pairs = [(getattr(pretext, f"{prefix}_{student}"), getattr(pretext, student)) for student in ("encoder", head)]
    before = [[p.clone() for p in student.parameters()] for _, student in pairs]
    wander(*(student for _, student in pairs))
    loss = pretext(pretext.views(batch(), context()))
    pretext.after_step(context(step=25), loss.kept)
    for old, (teacher, student) in zip(before, pairs, strict=True):
        for was, now, towards in zip(old, teacher.parameters(), student.parameters(), strict=True):
            torch.testing.assert_close(now, momentum * was + (1 - momentum) * towards)
    means = [network.norm.running_mean for network in pairs[0]]
    assert torch.allclose(*means) == (name == "byol")  # which copies them, since nothing reads them in training
    assert all(mean.abs().sum() > 0 for mean in means)


LIGHT = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)
UNSEEN = Batch(colours(-1, 64), torch.arange(64))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("name", "settings", "steps", "least", "most"),
    [("simclr", {}, 80, 0.2, 0.15), ("moco_v2", {"momentum": 0.9, "negatives": 100}, 120, 0.17, 0.14)],
)  # fmt: skip
def test_the_hue_that_views_share_is_found_but_not_from_pairs_without_one(name, settings, steps, least, most, paired):
    pretext = task(name, augment=LIGHT, temperature=0.1, hidden=32, out=16, **settings)
    train(pretext, steps, colours, spoil=lambda v: v if paired else (v[0], v[1].roll(1, 0)))
    draws = [torch.cat(pretext.eval().views(UNSEEN, context(seed))) for seed in range(20)]  # one alone may fall short
    with torch.no_grad():
        nearest = [nt_xent(pretext.projector(pretext.encoder(x).pooled), 0.1)[1] for x in draws]
    accuracy = torch.cat(nearest).float().mean()
    assert (accuracy > least) if paired else (accuracy < most), accuracy  # 0.11 before training


@pytest.mark.slow
def test_byol_and_dino_find_what_views_share_and_do_not_collapse():
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    both = {"augment": crops, "augment_prime": crops, "momentum": 0.9, "hidden": 32}
    pretext = task("byol", **both, out=16)
    train(pretext, 60, colours)
    with torch.no_grad():
        first, second = pretext.eval().views(UNSEEN, context(7))
        paired, other = pretext((first, second)), pretext((first, second.roll(1, 0)))
    assert paired.value < 0.3 * other.value
    assert paired.metrics["spread"] > 0.5
    shares = []
    for seed in range(4):  # so small a DINO finds it in about half of its runs, and nothing at all in the others
        pretext = task("dino", **both, augment_local=crops, prototypes=32, freeze=Duration(0, "%"))
        train(pretext, 100, lambda step, seed=seed: colours(1000 * seed + step))
        with torch.no_grad():
            x, local = pretext.views(UNSEEN, context(7))
            pairs = (x, torch.cat([x[:64], x[64:].roll(1, 0)]))
            paired, other = (pretext((each, local)).metrics["divergence"] for each in pairs)
        shares.append(float(paired / other))
    assert min(shares) < 0.3, shares
