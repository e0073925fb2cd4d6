"""DCL, MoCo v3, SimSiam, NNCLR and ReSSL: losses by their formulas, who gets gradient, queues, teachers, rates."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import SHAPE, Conv, batch, colours, context, gradients, number, train, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Pretext
from ssl_runner.layers.ema import follow
from ssl_runner.layers.queue import Queue
from ssl_runner.loss.info_nce import decoupled, in_batch, nt_xent
from ssl_runner.model.timm import Timm
from ssl_runner.model.vit import ViT
from ssl_runner.pretext.dcl import DCL
from ssl_runner.pretext.moco_v3 import MoCoV3
from ssl_runner.pretext.nnclr import NNCLR
from ssl_runner.pretext.ressl import ReSSL
from ssl_runner.pretext.simsiam import SimSiam, negative_cosine

CROPS = Views(scale=(0.5, 1.0))
SMALL = {"hidden": 16, "out": 8}
KINDS = {
    "dcl": (DCL, SMALL),
    "moco_v3": (MoCoV3, {**SMALL, "augment_prime": CROPS}),
    "simsiam": (SimSiam, {**SMALL, "predictor_hidden": 4}),
    "nnclr": (NNCLR, {**SMALL, "augment_prime": CROPS, "neighbours": 20}),
    "ressl": (ReSSL, {**SMALL, "augment_weak": CROPS, "anchors": 20}),
}


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": Conv(), "augment": CROPS, **own, **settings}).train()


def project(pretext, views, encoder="encoder", projector="projector"):
    return [getattr(pretext, projector)(getattr(pretext, encoder)(view).pooled) for view in views]


def unit(x):
    return F.normalize(x, dim=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_dcl_encodes_both_views_at_once(weighted):
    pretext = task("dcl", weighted=weighted, weight_temperature=0.3)
    views = pretext.views(batch(), context())
    loss = pretext(views)
    torch.testing.assert_close(loss.embedding, *project(pretext, [torch.cat(views)]))
    torch.testing.assert_close(loss.value, decoupled(loss.embedding, 0.1, 0.3 if weighted else None)[0])


@pytest.mark.parametrize("name", ["dcl", "moco_v3", "nnclr"])
def test_one_sample_has_no_negatives(name):
    pretext = task(name)
    with pytest.raises(ValueError, match="raise batch_size or lower accumulate"):
        pretext(tuple(torch.rand(1, *SHAPE) for _ in range(2)))


def test_moco_v3_is_symmetrised_scaled_by_twice_the_temperature_and_keys_have_no_gradient():
    pretext = task("moco_v3", temperature=0.5)
    wander(pretext.key_encoder, pretext.key_projector)
    views = pretext.views(batch(), context())
    loss = pretext(views)
    z, k = project(pretext, views), project(pretext, views, "key_encoder", "key_projector")
    crossed = [in_batch(pretext.predictor(z[i]), k[1 - i], 0.5)[0] for i in range(2)]
    torch.testing.assert_close(loss.value, 2 * 0.5 * sum(crossed))
    torch.testing.assert_close(pretext(views[::-1]).value, loss.value)
    loss.value.backward()
    seen = gradients(pretext)
    assert all((value is None) == name.startswith("key_") for name, value in seen.items())
    with torch.no_grad():  # a predictor that answers one point costs 2 T log B in each direction
        pretext.predictor[-1].weight.zero_()
    assert number(pretext(views).value) == pytest.approx(2 * math.log(8), rel=1e-5)  # 2 T = 1, in two directions


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_moco_v3s_heads_have_no_biases_and_end_in_a_plain_batch_norm(layers, norm):
    pretext = task("moco_v3", layers=layers, predictor_norm=norm)
    heads = [pretext.projector, pretext.predictor]
    assert [len(head) for head in heads] == [3 * layers - 1, 5 if norm else 4]
    assert all(each.bias is None for head in heads for each in head if isinstance(each, nn.Linear))
    assert [isinstance(head[-1], nn.BatchNorm1d) for head in heads] == [True, norm]
    assert not any(each.affine for each in (head[-1] for head in heads) if isinstance(each, nn.BatchNorm1d))


def test_moco_v3_freezes_the_projection_of_patches_and_no_more(make):
    colour = {"shape": SHAPE, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    vit = ViT(**colour, width=8, depth=1, heads=2, patch=2)
    assert list(task("moco_v3", encoder=vit).rates(context())) == ["encoder.patches"]
    assert not task("moco_v3", encoder=vit, freeze_patches=False).rates(context())
    assert not task("moco_v3").rates(context())  # a convnet has none
    large = {"shape": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert not task("moco_v3", encoder=Timm(**large, name="resnet18")).rates(context())
    words = ("pretext=moco_v3", "model=vit_tiny", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
    learner = make(*words, "evaluator=none").learner
    before = {name: p.detach().clone() for name, p in learner.pretext.encoder.named_parameters()}
    learner.step(0)
    now = dict(learner.pretext.encoder.named_parameters())
    assert {name for name in now if torch.equal(now[name], before[name])} == {"patches.weight", "patches.bias"}


@pytest.mark.parametrize("targets", [1, 3])
def test_simsiam_predicts_the_mean_of_the_other_views_without_gradient_to_it(targets):
    pretext = task("simsiam", targets=targets)
    views = pretext.views(batch(), context())
    assert len(views) == targets + 1
    loss = pretext(views)
    z = torch.stack(project(pretext, views))
    p = torch.stack([pretext.predictor(each) for each in z])
    torch.testing.assert_close(loss.value, negative_cosine(p, z.detach()))
    torch.testing.assert_close(loss.embedding, z.flatten(0, 1))
    torch.testing.assert_close(pretext(views[::-1]).value, loss.value)
    assert 0 < number(loss.metrics["spread"]) < 1.2
    seen = []
    for stop in (True, False):  # a lost stop-gradient leaves the value and changes the gradient
        pretext.stop_gradient = stop
        again = pretext(views)
        torch.testing.assert_close(again.value, loss.value)
        seen.append(torch.autograd.grad(again.value, pretext.encoder.convolution.weight)[0])
    assert not torch.allclose(*seen, rtol=1e-2)
    (expected,) = torch.autograd.grad(loss.value, pretext.encoder.convolution.weight)
    torch.testing.assert_close(seen[0], expected)


def test_simsiams_predictor_learns_at_the_peak_rate_and_its_heads_are_the_papers(make):
    learner = make("pretext=simsiam", "optimizer.warm_up=0%", "evaluator=none").learner
    for step in (0, 6, 11):
        learner.step(step)
        optimizer, schedule = learner.optimizers["main"], learner.settings(step)
        for group, prefix in zip(optimizer.optimizer.param_groups, optimizer.prefixes, strict=True):
            assert group["lr"] == (schedule.peak if prefix == "predictor" else schedule.lr)
    assert schedule.lr < 0.1 * schedule.peak
    assert not task("simsiam", predictor=False).rates(context())
    pretext = task("simsiam", layers=3)
    ends = (pretext.projector[6], pretext.predictor[0], pretext.predictor[-1])
    assert [each.bias is None for each in ends] == [True, True, False]
    assert not pretext.projector[7].affine


def test_nnclr_tells_the_neighbours_of_one_view_by_predictions_from_the_other():
    pretext = task("nnclr")
    views = pretext.views(batch(), context())
    old = pretext.queue.rows.clone()
    z1, z2 = project(pretext, views)
    loss, near = pretext(views), [old[(unit(z) @ old.T).argmax(1)] for z in (z1, z2)]
    expected = [in_batch(near[0], pretext.predictor(z2), 0.1)[0], in_batch(near[1], pretext.predictor(z1), 0.1)[0]]
    torch.testing.assert_close(loss.value, sum(expected) / 2)
    torch.testing.assert_close(loss.metrics["similarity"], (near[0] * unit(z1)).sum(1).mean().detach())
    torch.testing.assert_close(loss.kept["keys"], unit(z1).detach())  # of the first views alone
    shift = pretext.projector[-1].bias.requires_grad_()
    (slope,) = torch.autograd.grad(pretext(views).value, shift)
    assert slope.abs().max() < 1e-6  # so it does not learn
    assert not task("nnclr").projector[-1].bias.requires_grad
    pretext.queue.rows.copy_(old[torch.randperm(20)])  # a permutation of the queue changes nothing
    torch.testing.assert_close(pretext(views).value, loss.value)
    pretext.queue.rows.copy_(old)
    pretext.after_step(context(), loss.kept)
    torch.testing.assert_close(pretext.queue.rows, torch.cat([loss.kept["keys"], old[8:]]))
    again = pretext(views)  # a sample whose projection is there already is its own neighbour
    assert number(again.metrics["similarity"]) == pytest.approx(1, abs=1e-5)
    assert not torch.isclose(again.value, loss.value)
    torch.testing.assert_close(pretext.nearest(z1), unit(z1).detach())


def test_ressl_matches_relations_to_the_old_queue():
    pretext = task("ressl")
    wander(pretext.teacher_encoder)
    views = pretext.views(batch(), context())
    old, loss = pretext.queue.rows.clone(), pretext(views)
    query = unit(project(pretext, views[:1])[0]).double()
    key = unit(project(pretext, views[1:], "teacher_encoder", "teacher_projector")[0]).double()
    target = (key @ old.T.double() / 0.04).softmax(1)
    cross = -(target * (query @ old.T.double() / 0.1).log_softmax(1)).sum(1).mean()
    entropy = -(target * target.log()).sum(1).mean()
    assert number(loss.value) == pytest.approx(number(cross), rel=1e-5)
    assert number(loss.metrics["entropy"]) == pytest.approx(number(entropy), rel=1e-4)
    assert number(loss.metrics["divergence"]) == pytest.approx(number(cross - entropy), rel=1e-3)
    torch.testing.assert_close(loss.kept["keys"].double(), key.detach(), rtol=1e-4, atol=1e-6)
    loss.value.backward()
    assert all((value is None) == name.startswith("teacher_") for name, value in gradients(pretext).items())
    pretext.queue.rows.copy_(old.flip(0))
    torch.testing.assert_close(pretext(views).value, loss.value)
    pretext.queue.rows.copy_(old[:1].expand(20, -1))  # all anchors alike: nothing can be told
    assert number(pretext(views).value) == pytest.approx(math.log(20), rel=1e-5)
    pretext.queue.rows.copy_(old)
    pretext.after_step(context(), loss.kept)
    torch.testing.assert_close(pretext.queue.rows, torch.cat([loss.kept["keys"], old[8:]]))


@pytest.mark.parametrize("name", ["nnclr", "ressl"])
def test_the_queue_takes_in_all_micro_batches_in_order_after_the_loss(name, make, monkeypatch):
    size = {"nnclr": "pretext.neighbours=50", "ressl": "pretext.anchors=50"}[name]
    word = (f"pretext={name}", size, "accumulate=4", "evaluator=none")
    learner, taken, enqueue = make(*word).learner, [], Queue.enqueue
    monkeypatch.setattr(Queue, "enqueue", lambda self, rows: (taken.append(rows.clone()), enqueue(self, rows)))
    kept, forward = [], type(learner.pretext).forward

    def watch(self, views, group="main"):
        kept.append(forward(self, views, group).kept["keys"])
        return forward(self, views, group)

    monkeypatch.setattr(type(learner.pretext), "forward", watch)
    learner.step(0)
    assert [len(rows) for rows in taken] == [16]
    torch.testing.assert_close(taken[0], torch.cat(kept))


COSINE = 1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2


@pytest.mark.parametrize(("name", "prefix", "momentum"), [("moco_v3", "key", COSINE), ("ressl", "teacher", 0.9)])
def test_a_teacher_starts_as_its_student_follows_once_a_step_and_keeps_its_own_statistics(name, prefix, momentum, make):
    pretext = task(name, momentum=0.9)
    pairs = [(getattr(pretext, f"{prefix}_{part}"), getattr(pretext, part)) for part in ("encoder", "projector")]
    assert all(torch.equal(*both) for a, b in pairs for both in zip(a.parameters(), b.parameters(), strict=True))
    before = [[p.clone() for p in student.parameters()] for _, student in pairs]
    wander(*(student for _, student in pairs))
    loss = pretext(pretext.views(batch(), context()))
    pretext.after_step(context(step=25), loss.kept)
    for old, (teacher, student) in zip(before, pairs, strict=True):
        for was, now, towards in zip(old, teacher.parameters(), student.parameters(), strict=True):
            torch.testing.assert_close(now, momentum * was + (1 - momentum) * towards)
    assert not torch.allclose(*(network.norm.running_mean for network in pairs[0]))
    moves = []
    learner = make(f"pretext={name}", "accumulate=4", "evaluator=none").learner
    with pytest.MonkeyPatch.context() as patch:
        module = f"ssl_runner.pretext.{name}.follow"
        patch.setattr(module, lambda *given, **named: (moves.append(1), follow(*given, **named)))
        learner.step(0)
    assert len(moves) == 2  # the encoder and its projector


@pytest.mark.parametrize("name", ["nnclr", "ressl"])
def test_a_sample_that_is_in_the_queue_before_its_own_loss_is_seen(name, monkeypatch):
    """The planted mistake: keys enter the queue in the forward pass."""
    pretext = task(name)
    views = pretext.views(batch(), context())
    expected, forward = pretext(views), type(pretext).forward

    def early(self, views, group="main"):
        self.queue.enqueue(forward(self, views, group).kept["keys"])
        return forward(self, views, group)

    monkeypatch.setattr(type(pretext), "forward", early)
    loss = pretext(views)
    assert not torch.isclose(loss.value, expected.value, rtol=1e-2)


LIGHT = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("name", ["dcl", "moco_v3"])
def test_the_hue_that_views_share_is_found_but_not_from_pairs_without_one(name, paired):
    pair = {"augment_prime": LIGHT} if name == "moco_v3" else {}
    pretext = task(name, augment=LIGHT, temperature=0.1, hidden=32, out=16, **pair)
    train(pretext, 80, colours, spoil=lambda v: v if paired else (v[0], v[1].roll(1, 0)))
    unseen = Batch(colours(-1, 64), torch.arange(64))
    draws = [torch.cat(pretext.eval().views(unseen, context(seed))) for seed in range(20)]
    with torch.no_grad():
        nearest = [nt_xent(pretext.projector(pretext.encoder(x).pooled), 0.1)[1] for x in draws]
    accuracy = torch.cat(nearest).float().mean()
    assert (accuracy > 0.17) if paired else (accuracy < 0.15), accuracy
