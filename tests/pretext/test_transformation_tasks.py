"""Tasks that name a transformation: views that show their label, labels that nothing gives away, refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.contract import Batch, Pretext
from ssl_runner.pretext.crop import Crop
from ssl_runner.pretext.flip import Flip
from ssl_runner.pretext.rotation import Rotation
from ssl_runner.pretext.transformation import Transformation

TASKS = {"rotation": Rotation, "flip": Flip, "crop": Crop, "transformation": Transformation}
WIDE = (3, 8, 10)
LABELS = [("rotation", {}, [4]), ("rotation", {"copies": "one"}, [4]), ("flip", {}, [4]), ("crop", {}, [9])]
LABELS += [("transformation", {}, [4, 2, 4])]  # their numbers


def some(x: torch.Tensor) -> Batch:
    return Batch(x, torch.arange(len(x)))


def ramps(count: int, side: int = 32) -> Batch:
    """Channel 0 is the pixel's height in the image, channel 1 its distance from the left, channel 2 is 0.5."""
    place = (torch.arange(side) + 0.5) / side
    x = torch.stack((place[:, None].expand(side, side), place.expand(side, side), torch.full((side, side), 0.5)))
    return some(x.expand(count, -1, -1, -1).clone())


def task(name: str, **settings) -> Pretext:
    """A task on images of SHAPE that nothing else is done to."""
    shaped = {"shape": SHAPE} if name in ("rotation", "transformation") else {}
    return TASKS[name](**{"encoder": Conv(), "augment": still(), **shaped, **settings})


@pytest.mark.parametrize(("name", "settings", "classes"), LABELS[:3], ids=str)
def test_label_tells_how_to_undo_the_view(name, settings, classes):
    """Counter-clockwise turns; or none, left to right, top to bottom, both."""
    given = batch(64)
    x, label = task(name, **settings).views(given, context())
    assert set(label.tolist()) == set(range(*classes))
    copies = len(x) // 64
    assert copies == 1 or label.tolist() == [k for k in range(4) for _ in range(64)]
    for i, (image, k) in enumerate(zip(x, label.tolist(), strict=True)):
        flips = [d for d, on in ((2, k % 2), (1, k // 2)) if on]
        undone = torch.flip(image, flips) if name == "flip" else torch.rot90(image, -k, (1, 2))
        assert torch.equal(undone, given.x[i % 64])


def test_four_turns_are_of_one_view_exactly():
    """Whatever augment resamples, it does so before the turn, and leaves no trace of the angle."""
    given = batch()
    x, _ = task("rotation", augment=still(scale=(0.3, 0.9), degrees=20.0)).views(given, context())
    undone = torch.stack([image.rot90(-(i // 8), (1, 2)) for i, image in enumerate(x)]).unflatten(0, (4, 8))
    assert torch.equal(undone, undone[:1].expand_as(undone))
    assert not torch.equal(undone[0], given.x)


def test_crop_shows_the_region_it_names_and_no_border():
    x, region = task("crop", grid=3, size=0.5, jitter=0.5).views(ramps(200), context())
    centre = x[:, :2].mean((2, 3))  # of the window, as a share of the image
    assert torch.equal(((centre - 0.25) / 0.5 * 3).long() @ torch.tensor([3, 1]), region)
    assert set(region.tolist()) == set(range(9))
    spread = x[:, 0, -1].mean(1) - x[:, 0, 0].mean(1)
    assert torch.allclose(spread, torch.tensor(0.5 * 31 / 32), atol=0.02)  # half of the image fills the whole view
    for name in ("crop", "transformation"):  # up to the very border
        white, _ = task(name, size=0.6, jitter=1.0).views(some(torch.ones(500, 3, 31, 31)), context())
        assert 1 - 1e-5 < white.min() <= white.max() <= 1  # weights of a blend add up to 1 within rounding only


def test_rotation_and_flip_labels_are_the_eight_symmetries():
    """All pairs give distinct images, which four flips beside four rotations would not."""
    pretext, seen = task("transformation", crop=0.0), {}
    x, targets = pretext.views(some(batch(1).x.expand(256, -1, -1, -1).clone()), context())
    assert list(pretext.weights) == ["rotation", "flip"]
    for image, pair in zip(x, targets.tolist(), strict=True):
        assert torch.equal(seen.setdefault(tuple(pair), image), image)
    assert len(seen) == len(x.unique(dim=0)) == 8


def test_transformation_labels_tell_how_to_undo_the_view():
    """Undo the turn, then the flip, and the region stands where the ramps say, in the frame of the original."""
    pretext = task("transformation", shape=(3, 32, 32), grid=2, size=0.6)
    assert list(pretext.weights) == ["rotation", "flip", "crop"]
    for image, (turns, mirrored, region) in zip(*pretext.views(ramps(100), context()), strict=True):
        upright = torch.rot90(image, -int(turns), (1, 2))
        upright = upright.flip(2) if mirrored else upright
        assert upright[0, -1].mean() > upright[0, 0].mean() + 0.5
        assert upright[1, :, -1].mean() > upright[1, :, 0].mean() + 0.5
        down, across = ((upright[:2].mean((1, 2)) - 0.3) / 0.4 * 2).int()
        assert down * 2 + across == region


def test_task_of_weight_zero_is_not_done_to_the_image():
    given = batch(32)
    x, targets = task("transformation", rotation=0.0, crop=0.0).views(given, context())
    assert targets.shape == (32, 1)
    assert torch.equal(torch.where((targets == 1)[..., None, None], x.flip(3), x), given.x)
    x, targets = task("transformation", flip=0.0, crop=0.0).views(given, context())
    upright = [image.rot90(-int(turns), (1, 2)) for image, turns in zip(x, targets, strict=True)]
    assert torch.equal(torch.stack(upright), given.x)


@pytest.mark.parametrize(("name", "settings", "classes"), LABELS, ids=str)
def test_labels_are_uniform_and_drawn_a_sample(name, settings, classes):
    labels = task(name, **settings).views(batch(4000, shape=(3, 4, 4)), context())[1].view(-1, len(classes))
    assert labels.dtype == torch.int64
    joint = torch.zeros(len(labels), dtype=torch.int64)  # the draws of several tasks are independent of each other
    for label, count in zip(labels.T, classes, strict=True):
        joint = joint * count + label
    for each, count in [*zip(labels.T, classes, strict=True), (joint, math.prod(classes))]:
        share = each.bincount(minlength=count) / len(each)
        assert len(share) == count
        assert (share - 1 / count).abs().max() < 4.5 * math.sqrt(1 / count / 4000)


@pytest.mark.parametrize("seed", range(3))
def test_encoder_blind_to_orientation_cannot_beat_chance(seed):
    """Four copies get one answer, so their mean cross-entropy is log 4 at the least, and one in four is right."""
    torch.manual_seed(seed)
    pretext = task("rotation", encoder=Conv(kernel=1))
    views = pretext.views(batch(16), context())
    loss = pretext(views)
    assert loss.metrics["accuracy"] == 0.25
    assert loss.value >= math.log(4) - 1e-6
    pretext.head.load_state_dict({key: 0 * p for key, p in pretext.head.state_dict().items()})
    assert number(pretext(views).value) == pytest.approx(math.log(4), abs=1e-6)


def test_transformation_loss_is_the_weighted_sum_of_its_tasks():
    torch.manual_seed(0)
    pretext = task("transformation", rotation=0.5, flip=2.0, crop=3.0)
    x, targets = pretext.views(batch(16), context())
    loss, pooled = pretext((x, targets)), pretext.encoder(x).pooled
    triples = zip((0.5, 2, 3), pretext.heads.values(), targets.T, strict=True)
    expected = sum(weight * F.cross_entropy(head(pooled), label) for weight, head, label in triples)
    torch.testing.assert_close(loss.value, expected)
    assert loss.metrics["accuracy"] <= min(loss.metrics[f"{task}_accuracy"] for task in pretext.weights)


def learn(pretext: Pretext, given: Batch) -> float:
    """Task accuracy after 60 steps, over ten new draws of views."""
    train(pretext, 60, lambda step: given.x)
    with torch.no_grad():
        draws = [pretext(pretext.views(given, context(1000 + i))).metrics["accuracy"] for i in range(10)]
    return number(torch.stack(draws).mean())


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("name", TASKS)
def test_both_losses_learn_an_obvious_orientation(name, loss):
    torch.manual_seed(0)
    easy = {"rotation": {"copies": "one"}, "crop": {"grid": 2}, "transformation": {"crop": 0.0}}
    assert learn(task(name, loss=loss, **easy.get(name, {})), ramps(64, 8)) > 0.97


@pytest.mark.parametrize(("copies", "within"), [("all", 0.02), ("one", 0.1)])
def test_rotation_of_symmetric_images_is_never_told(copies, within):
    torch.manual_seed(0)
    symmetric = torch.stack([batch(64).x.rot90(k, (2, 3)) for k in range(4)]).sum(0) / 4
    assert learn(task("rotation", copies=copies), some(symmetric)) == pytest.approx(0.25, abs=within)


@pytest.mark.parametrize(
    ("name", "settings", "advice"),
    [
        *((name, {"augment": still(flip=0.5)}, r"pretext\.augment\.flip=0") for name in TASKS if name != "rotation"),
        *((name, {"augment": still(vertical_flip=0.5)}, r"augment\.vertical_flip=0") for name in ("rotation", "flip")),
        ("rotation", {"augment": still(degrees=45.0)}, "below 45"),
        ("flip", {"augment": still(degrees=90.0)}, "below 90"),
        ("crop", {"augment": still(scale=(0.2, 1.0))}, r"pretext\.augment\.scale=\[1,1\]"),
        ("rotation", {"shape": WIDE}, r"pretext\.augment\.size=8"),
        ("transformation", {"shape": WIDE}, r"pretext\.rotation=0"),
        ("transformation", {"rotation": 0.0, "flip": 0.0, "crop": 0.0}, r"pretext\.rotation=1"),
    ],
)
def test_augmentation_that_hides_the_answer_is_refused_with_what_to_type(name, settings, advice):
    with pytest.raises(ValueError, match=advice):
        task(name, **settings)


def test_images_need_not_be_square():
    for name, settings in (("flip", {}), ("crop", {}), ("transformation", {"shape": WIDE, "rotation": 0.0})):
        assert task(name, **settings).views(batch(4, shape=WIDE), context())[0].shape == (4, *WIDE)
    squares, _ = task("rotation", shape=WIDE, augment=still(size=8)).views(batch(4, shape=WIDE), context())
    assert squares.shape == (16, *SHAPE)
