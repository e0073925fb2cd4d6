"""DINO: who sees which views, centred and sharpened targets, a centre that moves once a step, frozen prototypes."""

import math
from collections.abc import Callable

import pytest
import torch
from toys import SHAPE, Conv, batch, colours, context, gradients, number, still, train, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.duration import Duration
from ssl_runner.engine.trainer import Trainer
from ssl_runner.loss.distillation import view_cross_entropy
from ssl_runner.model.convnet import ConvNet
from ssl_runner.model.vit import ViT
from ssl_runner.pretext.dino import DINO

HEAD = {"hidden": 16, "bottleneck": 8, "prototypes": 12}


def dino(encoder=None, **settings) -> DINO:
    torch.manual_seed(0)
    crops, small = Views(scale=(0.5, 1.0)), Views(scale=(0.2, 0.5))
    views = {"augment": crops, "augment_prime": crops, "augment_local": small, "local_views": 3}
    return DINO(encoder=encoder or Conv(), **{"shape": SHAPE, **views, **HEAD, **settings}).train()


def test_the_teacher_sees_two_global_views_and_the_student_all():
    pretext = dino()
    views = pretext.views(batch(), context())
    assert [tuple(view.shape) for view in views] == [(16, 3, 8, 8), (24, 3, 4, 4)]
    assert len(torch.cat([view.flatten(1)[:, :48] for view in views]).unique(dim=0)) == 40  # each has its own draw
    seen = {"encoder": [], "teacher_encoder": []}
    for name, passes in seen.items():
        getattr(pretext, name).register_forward_hook(lambda _, inputs, __, p=passes: p.append(tuple(inputs[0].shape)))
    pretext(views)
    assert seen == {"encoder": [(16, 3, 8, 8), (24, 3, 4, 4)], "teacher_encoder": [(16, 3, 8, 8)]}
    (alone,) = dino(local_views=0).views(batch(), context())
    assert torch.equal(alone, views[0])


def test_loss_is_the_equation_of_centred_and_sharpened_targets():
    pretext = dino()
    wander(pretext.teacher_encoder, pretext.teacher_head)
    pretext.centre.normal_()
    views = pretext.views(batch(), context())
    loss = pretext(views)
    logits = pretext.teacher_head(pretext.teacher_encoder(views[0]).pooled)
    targets = ((logits - pretext.centre) / 0.04).softmax(1)
    student = torch.cat([pretext.head(pretext.encoder(view).pooled) for view in views])
    expected = view_cross_entropy(targets.unflatten(0, (2, 8)), student.unflatten(0, (5, 8)), 0.1)
    torch.testing.assert_close(loss.value, expected)
    entropy = -(targets * targets.log()).sum(1).mean()
    torch.testing.assert_close(loss.metrics["entropy"], entropy.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.metrics["divergence"], (expected - entropy).detach(), rtol=1e-3, atol=1e-4)
    assert loss.embedding.shape == (16, 12)  # the features of the global views
    loss.value.backward()
    missing = {name.split(".")[0] for name, g in gradients(pretext).items() if g is None}
    assert missing == {"teacher_encoder", "teacher_head"}


def test_all_alike_costs_log_of_the_number_of_prototypes():
    pretext = dino()
    for head in (pretext.head, pretext.teacher_head):
        head.prototypes.weight.data = head.prototypes.weight.data[:1].expand(12, -1).clone()
    loss = pretext(pretext.views(batch(), context()))
    assert number(loss.value) == number(loss.metrics["entropy"]) == pytest.approx(math.log(12), rel=1e-5)


def test_the_centre_takes_a_constant_off_and_does_not_move_in_the_forward_pass():
    pretext = dino()
    views = pretext.views(batch(), context())
    before = pretext(views).value
    pretext.centre.add_(5.0)
    torch.testing.assert_close(pretext(views).value, before)
    assert (pretext.centre == 5).all()


def test_the_centre_moves_once_a_step_by_the_mean_of_all_micro_batches(make: Callable[..., Trainer]):
    learner = make("pretext=dino", "accumulate=4", "pretext.local_views=1", "evaluator=none").learner
    pretext, seen = learner.pretext, []
    pretext.teacher_head.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    learner.step(0)
    assert [len(logits) for logits in seen] == [8] * 4
    torch.testing.assert_close(pretext.centre, 0.1 * torch.cat(seen).mean(0))


def test_prototypes_are_frozen_at_the_start_and_the_teacher_is_what_is_trained(make: Callable[..., Trainer]):
    papers = ("optimizer.final_weight_decay=0.4", "optimizer.clip_each=3", "optimizer.warm_up=0%")
    learner = make("pretext=dino", "pretext.freeze=2st", "pretext.local_views=1", *papers, "evaluator=none").learner
    pretext = learner.pretext
    assert pretext.trained() is pretext.teacher_encoder is not pretext.encoder
    moved = []
    for step in range(3):
        before = {name: p.detach().clone() for name, p in pretext.named_parameters()}
        learner.step(step)
        moved.append({name for name, p in pretext.named_parameters() if not torch.equal(p, before[name])})
    assert ["head.prototypes.weight" in names for names in moved] == [False, False, True]
    assert all({"encoder.layers.0.weight", "head.projector.0.weight"} <= names for names in moved)
    assert all("teacher_encoder.layers.0.weight" in names for names in moved)


def test_the_teacher_follows_and_keeps_its_own_statistics():
    pretext = dino(momentum=0.9)
    wander(pretext.encoder, pretext.head)
    before = [p.clone() for p in (*pretext.teacher_encoder.parameters(), *pretext.teacher_head.parameters())]
    loss = pretext((torch.ones(16, *SHAPE), torch.zeros(24, 3, 4, 4)))
    pretext.after_step(context(step=25), loss.kept)
    m = 1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2
    student = (*pretext.encoder.parameters(), *pretext.head.parameters())
    teacher = (*pretext.teacher_encoder.parameters(), *pretext.teacher_head.parameters())
    for old, now, towards in zip(before, teacher, student, strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * towards)
    assert not torch.allclose(pretext.teacher_encoder.norm.running_mean, pretext.encoder.norm.running_mean)


def test_the_teachers_temperature_warms_up_along_a_line():
    pretext = dino(teacher_temperature=0.07, first_teacher_temperature=0.03, temperature_warm_up=Duration(40, "%"))
    for step, expected in ((0, 0.03), (10, 0.04), (40, 0.07), (99, 0.07)):
        pretext.before_step(context(step=step))
        assert number(pretext.sharpness) == pytest.approx(expected)
    pretext.temperature_warm_up = Duration(0, "%")
    pretext.before_step(context())
    assert number(pretext.sharpness) == pytest.approx(0.07)


@pytest.mark.parametrize(
    ("local", "size", "expected"), [(None, None, 16), (None, 48, 24), (12, None, 12), (12, 48, 12)]
)
def test_local_views_have_half_the_side_of_global_ones(local, size, expected):
    given = still(size=size)
    pretext = dino(shape=(3, 32, 40), augment=given, augment_prime=given, augment_local=still(size=local))
    sizes = [tuple(view.shape[2:]) for view in pretext.views(batch(2, shape=(3, 32, 40)), context())]
    assert sizes == [(size, size) if size else (32, 40), (expected, expected)]


def test_what_cannot_be_encoded_is_refused_with_what_to_type():
    convnet = ConvNet(shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3, widths=(4, 4, 4))
    with pytest.raises(
        ValueError, match=r"ConvNet .* 4x4 px .* pretext\.augment_local\.size=8 or pretext\.local_views=0"
    ):
        dino(convnet)
    assert dino(convnet, local_views=0).encoder is convnet
    with pytest.raises(ValueError, match=r"differ in size, None and 4 px; type pretext\.augment_prime\.size=null"):
        dino(augment_prime=still(size=4))


def test_a_vision_transformer_takes_both_sizes():
    colour = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    pretext = dino(ViT(shape=SHAPE, **colour, width=8, depth=1, heads=2, patch=2), momentum=0.0)
    loss = pretext(pretext.views(batch(), context()))
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.encoder.parameters())


def test_it_finds_what_views_share():
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    recipe = {"augment": crops, "augment_prime": crops, "augment_local": crops}
    pretext = dino(**recipe, hidden=32, prototypes=32, momentum=0.9, freeze=Duration(0, "%"))
    train(pretext, 100, colours)
    with torch.no_grad():
        both, local = pretext.views(Batch(colours(-1, 64), torch.arange(64)), context(7))
        paired = pretext((both, local)).metrics["divergence"]
        mixed = pretext((torch.cat([both[:64], both[64:].roll(1, 0)]), local)).metrics["divergence"]
    assert paired < 0.6 * mixed, (paired, mixed)


def test_suspects_are_its_own_settings():
    assert not dino().suspects()
    for name, value in (("teacher_temperature", 0.2), ("centre_momentum", 0.999), ("momentum", 0.0)):
        (suspect,) = dino(**{name: value}).suspects()
        assert f"pretext.{name}" in suspect.cause
