"""A recipe of views as the sum of its parts, for any images; and what each YAML says."""

import inspect

import pytest
import torch
import yaml
from conftest import names
from images import EVERYTHING, OFF, generator, near, pictures
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import basis, recolour, solarise
from ssl_runner.augment.image.geometry import crop_matrix, resample, rot90
from ssl_runner.augment.image.views import Views
from ssl_runner.config.compose import TREE


@pytest.mark.parametrize("c", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(32, 32), (7, 13), (20, 9), (1, 5)])
@pytest.mark.parametrize("size", [None, 8, 15])
def test_any_channels_shape_and_size_stay_in_range(c, shape, size):
    x = (torch.rand(16, c, *shape, generator=generator()) > 0.5).float()
    view = Views(size=size, **EVERYTHING)(x, generator())
    assert view.shape == (16, c, *((size, size) if size else shape))
    assert view.dtype == torch.float32
    assert view.isfinite().all()
    assert view.min() >= 0
    assert view.max() <= 1


def test_white_is_not_exceeded_by_a_rounding():
    for settings in ({**OFF, "scale": (0.2, 1.0)}, {**OFF, "degrees": 30.0}, {**OFF, "blur": 1.0}):
        assert Views(**settings)(torch.ones(256, 1, 33, 33), generator()).max() <= 1


def test_a_size_alone_resizes_the_whole_image():
    x = pictures(2, 3, 14, 20)
    want = TF.resize(x, [16, 16], antialias=False)
    near(Views(**OFF, size=16)(x, generator()), want)


def test_grey_images_of_three_channels_stay_grey():
    x = pictures(16, 1).expand(-1, 3, -1, -1)
    view = Views(jitter=1.0, hue=0.5)(x, generator())
    near(view[:, :1].expand(-1, 3, -1, -1), view, 1e-6)


def test_one_channel_has_no_colour_to_change():
    x = pictures(16, 1)
    assert torch.equal(Views(**{**OFF, "grey": 1.0})(x, generator()), x)
    plain = Views(**{**OFF, "jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "hue": 0.5})
    assert torch.equal(plain(x, generator()), x)


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_the_recipe_is_the_sum_of_its_parts(degrees):
    views, x = Views(jitter=1.0, blur=0.5, solarise=0.5, degrees=degrees), pictures()
    draw = views.draw(8, (16, 16), generator())
    view = resample(x, crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip, draw.angle), (16, 16))
    want = solarise(blur(recolour(view, *draw.colour.T), draw.sigma), draw.solarise)
    near(views.apply(x, draw), want, 1e-6)


def test_refuses_a_range_upside_down():
    with pytest.raises(ValueError, match=r"scale \[0.9, 0.2\] is upside down; write .* \[0.2, 0.9\]"):
        Views(scale=(0.9, 0.2))


def test_makes_nothing_on_the_default_device():
    """A tensor made without a word on its device would be on the default one, and mix with none of the others."""
    x, turns = pictures(), torch.arange(8)
    basis.cache_clear()
    for settings in ({}, {"size": 5}, {**OFF, "flip": 0.5}):
        with torch.device("meta"):
            view = rot90(Views(**{**EVERYTHING, **settings})(x, generator()), turns)
        assert view.device == x.device


@pytest.mark.parametrize("name", names("augment"))
def test_a_choice_spells_out_every_setting(name):
    settings = yaml.safe_load((TREE / "augment" / f"{name}.yaml").read_text())
    assert settings.pop("_target_") == "ssl_runner.augment.image.views.Views"
    signature = inspect.signature(Views).parameters
    assert list(settings) == list(signature)
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    x = pictures()
    view = Views(**settings)(x, generator())
    assert view.shape == x.shape
    assert torch.equal(view, x) == (name == "none")
    assert name != "simclr" or settings == {key: p.default for key, p in signature.items()}
