"""Tasks that name a transformation, and the autoencoder that undoes damage."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_runner.augment.image.views import Views
from ssl_runner.augment.image.window import draw_regions
from ssl_runner.contract import Batch, Context, Encoder, Features
from ssl_runner.layers.decoder import Decoder
from ssl_runner.loss.classification import score
from ssl_runner.pretext.autoencoder import Autoencoder
from ssl_runner.pretext.crop import Crop
from ssl_runner.pretext.flip import Flip
from ssl_runner.pretext.rotation import Rotation
from ssl_runner.pretext.transformation import Transformation

SHAPE = (3, 8, 8)
LOSSES = ("cross_entropy", "mse")


class Tiny(Encoder):
    """Two convolutions and a mean; a kernel of 1 pixel cannot see which way up an image is."""

    def __init__(self, kernel: int = 3, channels: int = 3, dim: int = 16):
        super().__init__([0.5] * channels, [0.5] * channels)
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Conv2d(channels, dim, kernel, padding=kernel // 2), nn.ReLU(), nn.Conv2d(dim, dim, kernel), nn.ReLU()
        )

    def forward(self, x, keep=None):
        maps = self.layers(self.normalise(x))
        return Features(maps.mean((2, 3)), maps.flatten(2).mT, tuple(maps.shape[2:]))


def still(**changes) -> Views:
    """A recipe that changes nothing, but for `changes`."""
    return Views(**{"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0} | changes)


def context(seed: int = 0) -> Context:
    return Context(0, 10, 5, torch.Generator().manual_seed(seed), lambda: iter(()))


def images(count: int = 64, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Batch:
    return Batch(torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)), torch.arange(count))


def marked(count: int) -> Batch:
    """Black but for the top left pixel."""
    x = torch.zeros(count, *SHAPE)
    x[:, :, 0, 0] = 1
    return Batch(x, torch.arange(count))


def ramps(count: int, side: int = 32) -> Batch:
    """Channel 0 is the pixel's height in the image, channel 1 its distance from the left, channel 2 is 0.5."""
    place = (torch.arange(side) + 0.5) / side
    x = torch.stack((place[:, None].expand(side, side), place.expand(side, side), torch.full((side, side), 0.5)))
    return Batch(x.expand(count, -1, -1, -1).clone(), torch.arange(count))


TASKS = {
    "rotation all": lambda e=None, a=None: Rotation(encoder=e or Tiny(), shape=SHAPE, augment=a or still()),
    "rotation one": lambda e=None, a=None: Rotation(
        encoder=e or Tiny(), shape=SHAPE, augment=a or still(), copies="one"
    ),
    "flip": lambda e=None, a=None: Flip(encoder=e or Tiny(), augment=a or still()),
    "crop": lambda e=None, a=None: Crop(encoder=e or Tiny(), augment=a or still()),
    "transformation": lambda e=None, a=None: Transformation(encoder=e or Tiny(), shape=SHAPE, augment=a or still()),
    "autoencoder": lambda e=None, a=None: Autoencoder(encoder=e or Tiny(), shape=SHAPE, augment=a or still()),
}
CLASSIFIERS = [name for name in TASKS if name != "autoencoder"]
every_task = pytest.mark.parametrize("name", TASKS)


def corner_after_turns(turns: int) -> tuple[int, int]:
    """Where a mark in the top left goes, counter-clockwise."""
    return [(0, 0), (7, 0), (7, 7), (0, 7)][turns]


# What the views are


def test_rotation_turns_the_marked_corner_counter_clockwise():
    x, turns = TASKS["rotation all"]().views(marked(3), context())
    assert turns.tolist() == [0, 1, 2, 3] * 3
    for image, turn in zip(x, turns.tolist(), strict=True):
        assert image.sum() == 3
        assert image[0][corner_after_turns(turn)] == 1


def test_flip_moves_the_marked_corner():
    x, kind = TASKS["flip"]().views(marked(64), context())
    corners = {0: (0, 0), 1: (0, 7), 2: (7, 0), 3: (7, 7)}  # none, left to right, top to bottom, both
    assert set(kind.tolist()) == {0, 1, 2, 3}
    for image, k in zip(x, kind.tolist(), strict=True):
        assert image.sum() == 3
        assert image[0][corners[k]] == 1


@pytest.mark.parametrize("name", ["rotation all", "rotation one", "flip"])
def test_label_tells_how_to_undo_the_view(name):
    batch = images(16)
    x, label = TASKS[name]().views(batch, context())
    copies = len(x) // len(batch.x)
    for i, (image, k) in enumerate(zip(x, label.tolist(), strict=True)):
        if name == "flip":
            undone = torch.flip(image, [d for d, on in ((2, k % 2), (1, k // 2)) if on])
        else:
            undone = torch.rot90(image, -k, (1, 2))
        assert torch.equal(undone, batch.x[i // copies])


def test_four_turns_are_of_one_view_exactly():
    """Whatever augment resamples, it does so before the turn, and leaves no trace of the angle."""
    batch = images(8)
    x, _ = TASKS["rotation all"](a=still(scale=(0.3, 0.9), degrees=20.0)).views(batch, context())
    undone = torch.stack([image.rot90(-(i % 4), (1, 2)) for i, image in enumerate(x)]).unflatten(0, (8, 4))
    assert torch.equal(undone, undone[:, :1].expand_as(undone))
    assert not torch.equal(undone[:, 0], batch.x)


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_regions_are_bins_of_the_places_where_a_window_fits(grid, jitter, rng):
    region, top, left = draw_regions(4000, grid, 0.4, jitter, rng)
    down, across = top / 0.6 * grid, left / 0.6 * grid  # in bins
    assert torch.equal(region, down.long() * grid + across.long())
    assert top.min() >= 0
    assert max(top.max(), left.max()) <= 0.6
    within = torch.stack((down.frac(), across.frac()))
    assert (within - 0.5).abs().max() <= jitter / 2 + 1e-4
    assert within.std().item() == pytest.approx(jitter / math.sqrt(12), abs=0.01)
    assert torch.corrcoef(within)[0, 1].nan_to_num().abs() < 0.06 or jitter == 0  # down and across are separate draws


def test_crop_shows_the_region_it_names():
    pretext = Crop(encoder=Tiny(), augment=still(), grid=3, size=0.5, jitter=0.5)
    x, region = pretext.views(ramps(200), context())
    centre = x[:, :2].mean((2, 3))  # of the window, as a share of the image
    bins = ((centre - 0.25) / 0.5 * 3).long()
    assert torch.equal(bins[:, 0] * 3 + bins[:, 1], region)
    assert set(region.tolist()) == set(range(9))
    spread = x[:, 0, -1].mean(1) - x[:, 0, 0].mean(1)
    assert torch.allclose(spread, torch.tensor(0.5 * 31 / 32), atol=0.02)  # half of the image fills the whole view


@pytest.mark.parametrize("name", ["crop", "transformation"])
def test_region_shows_no_border(name):
    pretext = TASKS[name]()
    pretext.size, pretext.jitter = 0.6, 1.0  # up to the very border
    white, _ = pretext.views(Batch(torch.ones(500, 3, 31, 31), torch.arange(500)), context())
    assert white.min() > 1 - 1e-5
    assert white.max() <= 1  # the weights of a blend add up to 1 within rounding only


def test_rotation_and_flip_labels_are_the_eight_symmetries():
    """All pairs give distinct images, which four flips beside four rotations would not."""
    pretext = Transformation(encoder=Tiny(), shape=SHAPE, augment=still(), crop=0.0)
    batch = Batch(images(1).x.expand(256, -1, -1, -1).clone(), torch.arange(256))
    x, targets = pretext.views(batch, context())
    assert list(pretext.weights) == ["rotation", "flip"]
    seen = {}
    for image, pair in zip(x, targets.tolist(), strict=True):
        seen.setdefault(tuple(pair), image)
        assert torch.equal(seen[tuple(pair)], image)
    assert len(seen) == 8
    distinct = torch.stack(list(seen.values())).flatten(1)
    assert (torch.cdist(distinct, distinct) < 1e-6).sum() == 8


def test_transformation_labels_tell_how_to_undo_the_view():
    """Undo the turn, then the flip, and the region stands where the ramps say, in the frame of the original."""
    pretext = Transformation(encoder=Tiny(), shape=(3, 32, 32), augment=still(), grid=2, size=0.6)
    assert list(pretext.weights) == ["rotation", "flip", "crop"]
    for image, (turns, mirrored, region) in zip(*pretext.views(ramps(100), context()), strict=True):
        upright = torch.rot90(image, -int(turns), (1, 2))
        upright = upright.flip(2) if mirrored else upright
        down, across, _ = upright.mean((1, 2))
        assert upright[0, -1].mean() > upright[0, 0].mean() + 0.5
        assert upright[1, :, -1].mean() > upright[1, :, 0].mean() + 0.5
        bins = [int((centre - 0.3) / 0.4 * 2) for centre in (down, across)]
        assert bins[0] * 2 + bins[1] == region


def test_task_of_weight_zero_is_not_done_to_the_image():
    batch = images(32)
    settings = {"encoder": Tiny(), "shape": SHAPE, "augment": still()}
    x, targets = Transformation(**settings, rotation=0.0, crop=0.0).views(batch, context())
    assert targets.shape == (32, 1)
    assert torch.equal(torch.where((targets == 1)[..., None, None], x.flip(3), x), batch.x)
    x, targets = Transformation(**settings, flip=0.0, crop=0.0).views(batch, context())
    for image, turns, original in zip(x, targets.tolist(), batch.x, strict=True):
        assert torch.equal(torch.rot90(image, -turns[0], (1, 2)), original)


def test_autoencoder_damage_has_the_statistics_asked_for():
    grey = Batch(torch.full((200, 3, 8, 8), 0.5), torch.arange(200))
    damaged, clean = Autoencoder(encoder=Tiny(), shape=SHAPE, augment=still(), noise=0.1, mask=0.0).views(
        grey, context()
    )
    assert torch.equal(clean, grey.x)
    assert damaged.std().item() == pytest.approx(0.1, rel=0.02)
    assert damaged.mean().item() == pytest.approx(0.5, abs=0.002)
    damaged, clean = Autoencoder(encoder=Tiny(), shape=SHAPE, augment=still(), noise=0.0, mask=0.3).views(
        grey, context()
    )
    black = damaged == 0
    assert torch.equal(black.any(1), black.all(1))  # whole pixels
    assert black.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(damaged[~black], clean[~black])
    damaged, clean = Autoencoder(encoder=Tiny(), shape=SHAPE, augment=still(), noise=0.0, mask=0.0).views(
        grey, context()
    )
    assert torch.equal(damaged, clean)


# Randomness


@every_task
def test_views_are_images_as_the_dataset_makes_them(name):
    views = TASKS[name](a=still(jitter=0.5, grey=0.5)).views(images(8), context())
    for view in (v for v in views if v.ndim == 4):
        assert view.dtype == torch.float32
        assert view.shape[1:] == SHAPE
        assert view.min() >= 0
        assert view.max() <= 1
        assert not view.requires_grad


@every_task
def test_same_generator_same_views(name):
    pretext, batch = TASKS[name](a=still(jitter=0.5)), images(32)
    first, second, other = (pretext.views(batch, context(seed)) for seed in (3, 3, 4))
    torch.rand(1)  # the global generator plays no part
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


@every_task
def test_batch_mates_do_not_touch_a_sample(name):
    pretext, batch = TASKS[name](), images(8)
    replaced = batch.x.clone()
    replaced[1:] = images(7, seed=9).x
    before, after = (pretext.views(b, context()) for b in (batch, Batch(replaced, batch.index)))
    own = 4 if name == "rotation all" else 1
    assert all(torch.equal(a[:own], b[:own]) for a, b in zip(before, after, strict=True))
    assert not torch.equal(before[0][own:], after[0][own:])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_are_uniform_and_drawn_a_sample(name):
    labels = TASKS[name]().views(images(4000, (3, 4, 4)), context())[1].view(-1, 1 if name != "transformation" else 3)
    assert labels.dtype == torch.int64
    for label, classes in zip(labels.T, [9] if name == "crop" else [4, 2, 4], strict=False):
        share = label.bincount(minlength=classes) / len(label)
        assert len(share) == classes
        assert (share - 1 / classes).abs().max() < 4 * math.sqrt(1 / classes / 4000)
    if name == "transformation":  # the three draws are independent of each other
        joint = (labels @ torch.tensor([8, 4, 1])).bincount(minlength=32) / len(labels)
        assert (joint - 1 / 32).abs().max() < 4.5 * math.sqrt(1 / 32 / 4000)


# The loss


@pytest.mark.parametrize("loss", LOSSES)
def test_score_by_hand(loss):
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    value, hits = score(logits, target, loss)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.e)) / 2 if loss == "cross_entropy" else (1 + 0 + 1 + 1) / 4
    assert value.item() == pytest.approx(expected)
    assert hits.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_encoder_blind_to_orientation_cannot_beat_chance(seed):
    """Four copies get one answer, so their mean cross-entropy is log 4 at the least, and one in four is right."""
    torch.manual_seed(seed)
    pretext = TASKS["rotation all"](Tiny(kernel=1))
    loss = pretext(pretext.views(images(16), context()))
    assert loss.metrics["accuracy"] == 0.25
    assert loss.value >= math.log(4) - 1e-6
    nn.init.zeros_(pretext.head.weight)
    nn.init.zeros_(pretext.head.bias)
    assert pretext(pretext.views(images(16), context())).value.item() == pytest.approx(math.log(4), abs=1e-6)


def test_transformation_loss_is_the_weighted_sum_of_its_tasks():
    torch.manual_seed(0)
    pretext = Transformation(encoder=Tiny(), shape=SHAPE, augment=still(), rotation=0.5, flip=2.0, crop=3.0)
    x, targets = pretext.views(images(16), context())
    pooled = pretext.encoder(x).pooled
    terms = [
        F.cross_entropy(head(pooled), target) for head, target in zip(pretext.heads.values(), targets.T, strict=True)
    ]
    loss = pretext((x, targets))
    assert torch.allclose(loss.value, 0.5 * terms[0] + 2 * terms[1] + 3 * terms[2])
    assert loss.metrics["accuracy"] <= min(loss.metrics[f"{task}_accuracy"] for task in pretext.weights)


def test_autoencoder_loss_is_against_the_clean_image():
    pretext = TASKS["autoencoder"]().eval()
    damaged, clean = pretext.views(images(4), context())
    pictures = pretext.pictures((damaged, clean))
    assert torch.allclose(pretext((damaged, clean)).value, (pictures["reconstruction"] - clean).square().mean())
    assert torch.equal(pictures["input"], damaged)
    assert torch.equal(pictures["target"], clean)
    assert pretext((damaged, clean)).metrics["psnr"].item() == pytest.approx(
        10 * math.log10(1 / (pictures["reconstruction"] - clean).square().mean().item()), abs=1e-4
    )


@every_task
def test_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    pretext = TASKS[name]()
    views = pretext.views(images(16), context())
    loss = pretext(views)
    loss.value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pretext.parameters())
    assert len(pretext.groups()["main"]) == len(list(pretext.parameters()))
    assert not any(metric.requires_grad or metric.ndim for metric in loss.metrics.values())
    assert torch.equal(loss.embedding, pretext.encoder(views[0]).pooled)
    pretext.zero_grad()
    pretext(views).embedding.sum().backward()  # a regulariser on representations reaches the encoder
    assert all(p.grad is not None for p in pretext.encoder.parameters())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["rotation", "flip", "crop", "transformation"])
def test_both_losses_learn_an_obvious_orientation(name, loss):
    torch.manual_seed(0)
    common = {"encoder": Tiny(), "augment": still(), "loss": loss}
    pretext = {
        "rotation": lambda: Rotation(**common, shape=SHAPE, copies="one"),
        "flip": lambda: Flip(**common),
        "crop": lambda: Crop(**common, grid=2),
        "transformation": lambda: Transformation(**common, shape=SHAPE, crop=0.0),
    }[name]()
    assert learn(pretext, ramps(64, 8), 60) > 0.97


@pytest.mark.parametrize("copies", ["all", "one"])
def test_rotation_of_symmetric_images_is_never_told(copies):
    torch.manual_seed(0)
    x = images(64).x
    symmetric = (x + x.rot90(1, (2, 3)) + x.rot90(2, (2, 3)) + x.rot90(3, (2, 3))) / 4
    pretext = Rotation(encoder=Tiny(), shape=SHAPE, augment=still(), copies=copies)
    assert learn(pretext, Batch(symmetric, torch.arange(64)), 60) == pytest.approx(
        0.25, abs=0.02 if copies == "all" else 0.1
    )


def learn(pretext, batch: Batch, steps: int) -> float:
    """Task accuracy after so many steps, over ten new draws of views."""
    optimizer = torch.optim.Adam(pretext.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        pretext(pretext.views(batch, context(step))).value.backward()
        optimizer.step()
    with torch.no_grad():
        draws = [pretext(pretext.views(batch, context(1000 + i))).metrics["accuracy"] for i in range(10)]
    return torch.stack(draws).mean().item()


def test_autoencoder_finds_what_the_images_have_in_common():
    """Images vary along two planted directions, so a good code explains most of their variance, damaged or not."""
    torch.manual_seed(0)
    place = (torch.arange(8) + 0.5) / 8
    down, across = (place[:, None].expand(8, 8), place.expand(8, 8))
    amount = torch.rand(64, 2)[:, :, None, None]
    x = (amount[:, :1] * down + amount[:, 1:] * across)[:, 0, None].expand(-1, 3, -1, -1) / 2
    batch = Batch(x.contiguous(), torch.arange(64))
    pretext = Autoencoder(encoder=Tiny(), shape=SHAPE, augment=still(), noise=0.05, mask=0.05)
    optimizer = torch.optim.Adam(pretext.parameters(), lr=0.005)
    for step in range(120):
        optimizer.zero_grad()
        pretext(pretext.views(batch, context(step))).value.backward()
        optimizer.step()
    with torch.no_grad():
        error = pretext.eval()(pretext.views(batch, context(1000))).value
    assert error < 0.5 * (x - x.mean(0)).square().mean()


# The decoder


@pytest.mark.parametrize(
    "shape",
    [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 96, 96), (3, 20, 50), (2, 37, 9), (1, 31, 31), (1, 3, 5), (4, 1, 1)],
)
def test_decoder_makes_images_of_any_size(shape):
    decoder = Decoder(12, shape, width=32)
    x = decoder(torch.randn(2, 12))
    assert x.shape == (2, *shape)
    side = min(decoder.grid[1].unflattened_size[1:])
    assert side == min(shape[1:]) if min(shape[1:]) < 8 else 4 <= side <= 8
    assert x.min() >= 0
    assert x.max() <= 1
    x.sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
    with pytest.raises(ValueError, match="makes images"):
        Decoder(12, (16000,))


def test_decoder_reaches_every_pixel():
    """No pixel is padding: each one answers to the vector."""
    torch.manual_seed(0)
    decoder = Decoder(12, (1, 21, 13), width=32)
    assert (decoder(torch.randn(32, 12)).std(0) > 0).all()


# Refusals


@pytest.mark.parametrize(
    ("build", "advice"),
    [
        (lambda: Rotation(encoder=Tiny(), shape=(3, 8, 10), augment=still()), "pretext.augment.size=8"),
        (
            lambda: Rotation(encoder=Tiny(), shape=SHAPE, augment=still(vertical_flip=0.5)),
            "pretext.augment.vertical_flip=0",
        ),
        (lambda: Rotation(encoder=Tiny(), shape=SHAPE, augment=still(degrees=45.0)), "below 45"),
        (lambda: Flip(encoder=Tiny(), augment=still(flip=0.5)), "pretext.augment.flip=0"),
        (lambda: Flip(encoder=Tiny(), augment=still(vertical_flip=0.5)), "pretext.augment.vertical_flip=0"),
        (lambda: Flip(encoder=Tiny(), augment=still(degrees=90.0)), "below 90"),
        (lambda: Crop(encoder=Tiny(), augment=still(flip=0.5)), "pretext.augment.flip=0"),
        (lambda: Crop(encoder=Tiny(), augment=still(scale=(0.2, 1.0))), "pretext.augment.scale=[1,1]"),
        (lambda: Transformation(encoder=Tiny(), shape=(3, 8, 10), augment=still()), "pretext.rotation=0"),
        (lambda: Transformation(encoder=Tiny(), shape=SHAPE, augment=still(flip=0.5)), "pretext.augment.flip=0"),
        (
            lambda: Transformation(encoder=Tiny(), shape=SHAPE, augment=still(), rotation=0.0, flip=0.0, crop=0.0),
            "pretext.rotation=1",
        ),
    ],
)
def test_augmentation_that_hides_the_answer_is_refused_with_what_to_type(build, advice):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 the advice is the match
        build()
    assert advice in str(refusal.value)


def test_sizes_that_are_not_square():
    batch = images(4, (3, 8, 10))
    assert Flip(encoder=Tiny(), augment=still()).views(batch, context())[0].shape == (4, 3, 8, 10)
    assert Crop(encoder=Tiny(), augment=still()).views(batch, context())[0].shape == (4, 3, 8, 10)
    assert Rotation(encoder=Tiny(), shape=(3, 8, 10), augment=still(size=8)).views(batch, context())[0].shape == (
        16,
        3,
        8,
        8,
    )
    pretext = Transformation(encoder=Tiny(), shape=(3, 8, 10), augment=still(), rotation=0.0)
    assert pretext.views(batch, context())[0].shape == (4, 3, 8, 10)
    pretext = Autoencoder(encoder=Tiny(), shape=(3, 8, 10), augment=still())
    assert pretext.pictures(pretext.views(batch, context()))["reconstruction"].shape == (4, 3, 8, 10)
