"""Views: each sample has its own draw, distributed as in torchvision; a recipe is the sum of its parts; each YAML."""

import math

import pytest
import torch
from conftest import names
from images import EVERYTHING, OFF, near, pictures, rng
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF
from toys import choice

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import basis, recolour, solarise
from ssl_runner.augment.image.geometry import crop_matrix, resample, rot90
from ssl_runner.augment.image.views import Draw, Views

N = 10_000  # samples of a distribution


def test_each_sample_has_its_own_draw_and_one_setting_leaves_those_of_the_others_alone():
    draw = Views(**EVERYTHING).draw(64, (32, 32), rng())
    for field in (draw.box, draw.angle, draw.colour[draw.colour[:, 0] != 1], draw.sigma[draw.sigma > 0]):
        assert len(field.unique(dim=0)) > 0.9 * len(field) > 20
    view = Views(**EVERYTHING)(pictures(1).expand(16, -1, -1, -1), rng())
    assert len(view.unique(dim=0)) == 16
    plain = Views().draw(64, (32, 32), rng())
    for name in ("box", "flip", "colour"):
        assert torch.equal(getattr(plain, name), getattr(draw, name)), name
    assert plain.vertical_flip is plain.angle is plain.sigma is plain.solarise is None


ALONE = [{"flip": 0.5}, {"jitter": 1.0}, {"blur": 1.0}, {"flip": 1.0}, {"solarise": 1.0}]
ALONE.append({"blur": 0.5, "solarise": 0.5})


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"size": 11, "blur": 1.0}, *({**OFF, **each} for each in ALONE)])
def test_a_view_does_not_depend_on_its_batch_mates_and_images_are_left_as_they_were(settings):
    views, x, others, rows = Views(**settings), pictures(12), pictures(12, seed=1), torch.tensor([7, 2, 9])
    draw = views.draw(12, (16, 16), rng())
    whole = views.apply(x, draw)
    own = Draw(*(None if field is None else field[rows] for field in draw))
    near(views.apply(x[rows], own), whole[rows], 1e-6)
    others[rows] = x[rows]
    assert torch.equal(views.apply(others, draw)[rows], whole[rows])
    assert torch.equal(x, pictures(12))


@pytest.mark.parametrize("rows", [[], [1], [0, 1, 2]])
def test_a_batch_of_which_none_or_one_is_chosen(rows):
    x, views = pictures(3), Views(**OFF, blur=0.5, solarise=0.5, blur_sigma=(1.0, 1.0))
    sigma, inverted = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    sigma[rows], inverted[rows] = 1.0, True
    view = views.apply(x, views.draw(3, (16, 16), rng())._replace(sigma=sigma, solarise=inverted))
    near(view, solarise(blur(x, sigma), inverted), 1e-6)
    untouched = [i for i in range(3) if i not in rows]
    assert torch.equal(view[untouched], x[untouched])


@pytest.mark.parametrize("shape", [(16, 16), (7, 13)])
def test_probabilities_of_zero_and_one_are_never_and_always(shape):
    x, draws = pictures(8, 3, *shape), rng()
    still = {**OFF, "blur_sigma": (1.0, 1.0)}
    always = {"flip": x.flip(3), "vertical_flip": x.flip(2), "solarise": torch.where(x >= 0.5, 1 - x, x)}
    assert torch.equal(Views(**still, size=None)(x, draws), x)
    for name, view in always.items():
        assert torch.equal(Views(**{**OFF, name: 1.0})(x, draws), view), name
    grey = Views(**{**OFF, "grey": 1.0})(x, draws)
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    for name in ("blur", "jitter"):
        assert (Views(**{**still, name: 1.0})(x, draws) != x).flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["flip", "vertical_flip", "jitter", "grey", "blur", "solarise"])
def test_a_share_of_the_samples_is_touched_and_the_others_are_bit_exact(name):
    x = pictures(1).expand(2000, -1, -1, -1)
    touched = (Views(**{**OFF, "blur_sigma": (1.0, 1.0), name: 0.3})(x, rng()) != x).flatten(1).any(1)
    assert abs(touched.float().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


def test_the_draws_of_a_sample_are_independent_also_those_of_jitter_and_grey():
    views = Views(flip=0.5, vertical_flip=0.5, jitter=1.0, degrees=10.0, solarise=0.5)
    draw = views.draw(N, (32, 32), rng())
    size, colour = draw.box[:, 2:].prod(1), draw.colour[draw.colour[:, 2] > 0]
    columns = [draw.box[:, 0], draw.angle, draw.flip, draw.vertical_flip, draw.solarise, size, *draw.colour.T]
    related = torch.corrcoef(torch.stack([column.float() for column in columns])) - torch.eye(len(columns))
    related[0, 5] = related[5, 0] = 0  # a large crop has less room above it
    assert related.abs().max() < 0.045
    assert torch.corrcoef(colour.T).triu(1).abs().max() < 0.045
    drawn = Views(jitter=0.8, grey=0.2).draw(N, (8, 8), rng()).colour
    jittered, grey = drawn[:, 0] != 1, drawn[:, 2] == 0
    assert all(torch.equal(jittered, other) for other in (drawn[:, 1] != 1, drawn[:, 3] != 0))
    for chosen, share in ((jittered, 0.8), (grey, 0.2), (jittered & grey, 0.16)):
        assert abs(chosen.float().mean() - share) < 0.016


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
    theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(N)]).double()
    drawn = Views(scale=scale, ratio=ratio).draw(N, shape, rng(1)).box * torch.tensor([*shape, *shape])
    ours = drawn.round().double()
    near(drawn, drawn.round(), 1e-4)
    assert ((ours[:, :2] >= 0) & (ours[:, :2] + ours[:, 2:] <= torch.tensor(shape))).all()
    measures = ([top, left, h, w, h * w, w / h, top - left] for top, left, h, w in (ours.T, theirs.T))
    for number, (mine, want) in enumerate(zip(*measures, strict=True)):
        assert ks_2samp(mine, want, method="asymp").pvalue > 1e-3, number
        assert abs(mine.mean() - want.mean()) <= 6 * want.std() / math.sqrt(N) + 1e-9, number


@pytest.mark.parametrize("shape", [(8, 20), (21, 9), (41, 7)])
def test_if_no_try_fits_it_is_the_box_in_the_centre_of_torchvision(shape):
    scale, ratio = (0.95, 1.0), (0.9, 1.1)
    box = Views(scale=scale, ratio=ratio).draw(50, shape, rng()).box
    want = RandomResizedCrop.get_params(torch.zeros(1, *shape), list(scale), list(ratio))
    assert (box * torch.tensor([*shape, *shape])).round().unique(dim=0).tolist() == [list(want)]


def test_colours_angles_and_widths_are_uniform_in_their_ranges():
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1, "blur_sigma": (0.1, 2.0)}
    draw = Views(jitter=1.0, grey=0.0, degrees=30.0, blur=1.0, **strengths).draw(N, (8, 8), rng())
    ranges = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1), (-30, 30), (0.1, 2.0)]
    for column, (low, high) in zip([*draw.colour.T, draw.angle.rad2deg(), draw.sigma], ranges, strict=True):
        span = high - low
        assert low - 1e-6 * span <= column.min() < low + 0.01 * span
        assert high - 0.01 * span < column.max() <= high + 1e-6 * span
        assert abs(column.mean() - (low + high) / 2) < 4 * span / math.sqrt(12 * N)
        assert kstest(column, "uniform", (low, span)).pvalue > 1e-3


@pytest.mark.parametrize("c", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(32, 32), (7, 13), (20, 9), (1, 5)])
@pytest.mark.parametrize("size", [None, 8, 15])
def test_any_channels_shape_and_size_stay_in_range(c, shape, size):
    x = (torch.rand(16, c, *shape, generator=torch.Generator()) > 0.5).float()
    view = Views(size=size, **EVERYTHING)(x, rng())
    assert view.shape == (16, c, *((size, size) if size else shape))
    assert view.dtype == torch.float32
    assert 0 <= view.min() <= view.max() <= 1  # and no number is missing


def test_white_is_not_exceeded_by_a_rounding_and_images_without_colour_get_none():
    for settings in ({**OFF, "scale": (0.2, 1.0)}, {**OFF, "degrees": 30.0}, {**OFF, "blur": 1.0}):
        assert Views(**settings)(torch.ones(256, 1, 33, 33), rng()).max() <= 1
    x = pictures(16, 1)
    view = Views(jitter=1.0, hue=0.5)(x.expand(-1, 3, -1, -1), rng())
    near(view[:, :1].expand(-1, 3, -1, -1), view, 1e-6)
    assert torch.equal(Views(**{**OFF, "grey": 1.0})(x, rng()), x)
    plain = Views(**{**OFF, "jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "hue": 0.5})
    assert torch.equal(plain(x, rng()), x)


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_the_recipe_is_the_sum_of_its_parts(degrees):
    views, x = Views(jitter=1.0, blur=0.5, solarise=0.5, degrees=degrees), pictures()
    draw = views.draw(8, (16, 16), rng())
    view = resample(x, crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip, draw.angle), (16, 16))
    near(views.apply(x, draw), solarise(blur(recolour(view, *draw.colour.T), draw.sigma), draw.solarise), 1e-6)
    wide = pictures(2, 3, 14, 20)  # a size alone resizes the whole image
    near(Views(**OFF, size=16)(wide, rng()), TF.resize(wide, [16, 16], antialias=False))
    with pytest.raises(ValueError, match=r"scale \[0.9, 0.2\] is upside down; write .* \[0.2, 0.9\]"):
        Views(scale=(0.9, 0.2))


def test_makes_nothing_on_the_default_device():
    """A tensor made without a word on its device would be on the default one, and mix with none of the others."""
    x, turns = pictures(), torch.arange(8)
    basis.cache_clear()
    for settings in ({}, {"size": 5}, {**OFF, "flip": 0.5}):
        with torch.device("meta"):
            view = rot90(Views(**{**EVERYTHING, **settings})(x, rng()), turns)
        assert view.device == x.device


OF_IMAGES = [name for name in names("augment") if choice("augment", name)[0] is Views]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_choice_but_one_changes_images(name):
    _, settings, _ = choice("augment", name)
    assert torch.equal(Views(**settings)(pictures(), rng()), pictures()) == (name == "none")
