"""Draws of views: each sample has its own, distributed as in torchvision, and a probability is a share of samples."""

import math

import pytest
import torch
from images import EVERYTHING, OFF, generator, near, pictures
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import solarise
from ssl_runner.augment.image.views import Draw, Views

N = 10_000  # samples of a distribution


def chosen(draw: Draw, rows: torch.Tensor) -> Draw:
    return Draw(*(None if field is None else field[rows] for field in draw))


def test_each_sample_has_its_own():
    draw = Views(**EVERYTHING).draw(64, (32, 32), generator())
    for field in (draw.box, draw.angle, draw.colour[draw.colour[:, 0] != 1], draw.sigma[draw.sigma > 0]):
        assert len(field.unique(dim=0)) > 0.9 * len(field) > 20
    view = Views(**EVERYTHING)(pictures(1).expand(16, -1, -1, -1), generator())
    assert len(view.unique(dim=0)) == 16


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"size": 11, "blur": 1.0}, {**OFF, "flip": 0.5}])
def test_a_view_does_not_depend_on_its_batch_mates(settings):
    views, x = Views(**settings), pictures(12)
    draw = views.draw(12, (16, 16), generator())
    whole = views.apply(x, draw)
    rows = torch.tensor([7, 2, 9])
    near(views.apply(x[rows], chosen(draw, rows)), whole[rows], 1e-6)
    others = pictures(12, seed=1)
    others[rows] = x[rows]
    assert torch.equal(views.apply(others, draw)[rows], whole[rows])


def test_one_setting_leaves_the_draws_of_the_others_alone():
    plain, all_on = (Views(**settings).draw(64, (32, 32), generator()) for settings in ({}, EVERYTHING))
    for name in ("box", "flip", "colour"):
        assert torch.equal(getattr(plain, name), getattr(all_on, name)), name
    assert plain.vertical_flip is plain.angle is plain.sigma is plain.solarise is None


def test_a_batch_of_which_none_or_one_is_chosen():
    x = pictures(3)
    views = Views(**OFF, blur=0.5, solarise=0.5, blur_sigma=(1.0, 1.0))
    draw = views.draw(3, (16, 16), generator())
    for rows in ([], [1], [0, 1, 2]):
        sigma, inverted = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
        sigma[rows], inverted[rows] = 1.0, True
        view = views.apply(x, draw._replace(sigma=sigma, solarise=inverted))
        near(view, solarise(blur(x, sigma), inverted), 1e-6)
        untouched = [i for i in range(3) if i not in rows]
        assert torch.equal(view[untouched], x[untouched])


def test_images_are_left_as_they_were():
    x = pictures()
    before = x.clone()
    alone = [{"jitter": 1.0}, {"blur": 1.0}, {"flip": 1.0}, {"solarise": 1.0}, {"blur": 0.5, "solarise": 0.5}]
    for settings in (EVERYTHING, *alone):
        Views(**{**OFF, **settings})(x, generator())
        assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(16, 16), (7, 13)])
def test_everything_off_is_the_identity(shape):
    x = pictures(4, 3, *shape)
    assert torch.equal(Views(**OFF)(x, generator()), x)
    assert torch.equal(Views(**OFF, size=None, blur_sigma=(1.0, 1.0))(x, generator()), x)


def test_zero_and_one():
    x, rng = pictures(), generator()
    assert torch.equal(Views(**{**OFF, "flip": 1.0})(x, rng), x.flip(3))
    assert torch.equal(Views(**OFF, vertical_flip=1.0)(x, rng), x.flip(2))
    assert torch.equal(Views(**OFF, solarise=1.0)(x, rng), torch.where(x >= 0.5, 1 - x, x))
    grey = Views(**{**OFF, "grey": 1.0})(x, rng)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert (Views(**OFF, blur=1.0, blur_sigma=(1.0, 1.0))(x, rng) != x).flatten(1).any(1).all()
    assert (Views(**{**OFF, "jitter": 1.0})(x, rng) != x).flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["flip", "vertical_flip", "jitter", "grey", "blur", "solarise"])
def test_a_share_of_the_samples_is_touched_and_the_others_are_bit_exact(name):
    x = pictures(1).expand(2000, -1, -1, -1)
    touched = (Views(**{**OFF, "blur_sigma": (1.0, 1.0), name: 0.3})(x, generator()) != x).flatten(1).any(1)
    assert abs(touched.float().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


def test_the_draws_of_a_sample_are_independent():
    draw = Views(flip=0.5, vertical_flip=0.5, jitter=1.0, degrees=10.0, solarise=0.5).draw(
        10_000, (32, 32), generator()
    )
    size, colour = draw.box[:, 2:].prod(1), draw.colour[draw.colour[:, 2] > 0]
    columns = [draw.box[:, 0], draw.angle, draw.flip, draw.vertical_flip, draw.solarise, size, *draw.colour.T]
    related = torch.corrcoef(torch.stack([column.float() for column in columns])) - torch.eye(len(columns))
    related[0, 5] = related[5, 0] = 0  # a large crop has less room above it
    assert related.abs().max() < 0.045
    assert torch.corrcoef(colour.T).triu(1).abs().max() < 0.045


@pytest.mark.parametrize(
    ("shape", "scale", "ratio"),
    [
        ((32, 32), (0.2, 1.0), (3 / 4, 4 / 3)),
        ((96, 64), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((17, 45), (0.5, 1.0), (3 / 4, 4 / 3)),  # the centre box is often fallen back on
        ((45, 17), (0.9, 1.0), (1.0, 1.2)),  # always
    ],
)
def test_crops_are_those_of_torchvision(shape, scale, ratio):
    image = torch.zeros(1, *shape)
    torch.manual_seed(0)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(N)])
    ours = Views(scale=scale, ratio=ratio).draw(N, shape, generator(1)).box
    ours = ours * torch.tensor([shape[0], shape[1], shape[0], shape[1]])
    near(ours, ours.round(), 1e-4)
    ours, theirs = ours.round().double(), theirs.double()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor(shape)).all()
    for name, of in {
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "height": lambda box: box[:, 2],
        "width": lambda box: box[:, 3],
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "corner": lambda box: box[:, 0] - box[:, 1],
    }.items():
        assert ks_2samp(of(ours), of(theirs), method="asymp").pvalue > 1e-3, name
        spread = of(theirs).std() / math.sqrt(N)
        assert abs(of(ours).mean() - of(theirs).mean()) <= 6 * spread + 1e-9, name


@pytest.mark.parametrize("shape", [(8, 20), (21, 9), (41, 7)])
def test_where_no_try_fits_it_is_the_box_in_the_centre_of_torchvision(shape):
    scale, ratio = (0.95, 1.0), (0.9, 1.1)
    box = Views(scale=scale, ratio=ratio).draw(50, shape, generator()).box
    want = RandomResizedCrop.get_params(torch.zeros(1, *shape), list(scale), list(ratio))
    assert (box * torch.tensor([*shape, *shape])).round().unique(dim=0).tolist() == [list(want)]


def test_colours_are_uniform_in_their_ranges():
    views = Views(jitter=1.0, grey=0.0, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
    drawn = views.draw(N, (8, 8), generator()).colour
    for column, low, high in zip(drawn.T, (0.6, 0.0, 0.8, -0.1), (1.4, 2.5, 1.2, 0.1), strict=True):
        assert low - 1e-6 <= column.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < column.max() <= high + 1e-6
        assert abs(column.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * N)
        assert kstest(column, "uniform", (low, high - low)).pvalue > 1e-3


def test_jitter_and_grey_are_two_draws():
    drawn = Views(jitter=0.8, grey=0.2).draw(N, (8, 8), generator()).colour
    jittered, grey = drawn[:, 0] != 1, drawn[:, 2] == 0
    assert torch.equal(jittered, drawn[:, 1] != 1)
    assert torch.equal(jittered, drawn[:, 3] != 0)
    assert abs(jittered.float().mean() - 0.8) < 0.016
    assert abs(grey.float().mean() - 0.2) < 0.016
    assert abs((jittered & grey).float().mean() - 0.16) < 0.016


def test_angles_and_widths_are_uniform():
    draw = Views(degrees=30.0, blur=1.0, blur_sigma=(0.1, 2.0)).draw(N, (8, 8), generator())
    assert kstest(draw.angle.rad2deg(), "uniform", (-30, 60)).pvalue > 1e-3
    assert kstest(draw.sigma, "uniform", (0.1, 1.9)).pvalue > 1e-3
    assert draw.angle.abs().max() <= math.radians(30)
