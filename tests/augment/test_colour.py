"""Colours against torchvision's, where the two mean the same; solarisation and blur likewise."""

import pytest
import torch
from images import generator, near, pictures
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import LUMA, products_are_exact, recolour, solarise


def shift(b: float = 1.0, c: float = 1.0, s: float = 1.0, h: float = 0.0, n: int = 8) -> list[torch.Tensor]:
    return [torch.full((n,), value) for value in (b, c, s, h)]


# torchvision weighs red with 0.2989, here it is 0.299: greys differ by up to 1e-4 before they are stretched.
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_brightness_contrast_and_saturation_are_torchvisions(c, factor):
    x = pictures(8, c, 9, 14)
    near(recolour(x, *shift(b=factor)), TF.adjust_brightness(x, factor), 2e-4)
    near(recolour(x, *shift(c=factor)), TF.adjust_contrast(x, factor), 2e-4)
    near(recolour(x, *shift(s=factor)), TF.adjust_saturation(x, factor), 2e-4)


def test_saturation_zero_is_grey():
    x = pictures()
    want = TF.rgb_to_grayscale(x, num_output_channels=3)
    near(recolour(x, *shift(s=0.0)), want, 2e-4)


def test_one_matrix_is_any_order_of_the_four():
    x = 0.4 + 0.2 * pictures()  # far from 0 and 1, where torchvision clamps
    b, c, s, h = 1.2, 0.7, 1.3, 0.07
    at_once = recolour(x, *shift(b, c, s, h))
    single = [shift(b=b), shift(c=c), shift(s=s), shift(h=h)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        view = x
        for i in order:
            view = recolour(view, *single[i])
        near(view, at_once, 1e-6)
    theirs = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(x, b), c), s)
    near(recolour(x, *shift(b, c, s)), theirs, 2e-4)


def test_hue_turns_about_grey():
    x = 0.4 + 0.2 * pictures()
    luma = torch.tensor(LUMA).view(3, 1, 1)
    turned = recolour(x, *shift(h=0.2))
    near((turned * luma).sum(1), (x * luma).sum(1), 1e-6)
    near(recolour(turned, *shift(h=-0.2)), x, 1e-6)
    near(recolour(x, *shift(h=1.0)), x, 1e-6)
    grey = x[:, :1].expand(-1, 3, -1, -1)
    near(recolour(grey, *shift(h=0.3)), grey, 1e-6)


def test_hue_goes_the_way_of_torchvision():
    x = 0.4 + 0.2 * pictures()
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    assert recolour(red, *shift(h=1 / 3, n=1)).argmax(1) == 1
    assert recolour(red, *shift(h=-1 / 3, n=1)).argmax(1) == 2
    for turns in (-0.1, 0.05, 0.1):
        ours = (recolour(x, *shift(h=turns)) - x).flatten()
        theirs = (TF.adjust_hue(x, turns) - x).flatten()
        assert F.cosine_similarity(ours, theirs, 0) > 0.5


def test_each_sample_has_its_own_mean_and_factors():
    x = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.6)])
    parameters = [torch.tensor(v) for v in ([1.0, 1.5], [0.0, 0.5], [1.0, 1.0], [0.0, 0.0])]
    view = recolour(x, *parameters)  # flat pictures: contrast moves nothing
    torch.testing.assert_close(view[:, 0, 0, 0], torch.tensor([0.2, 0.9]))


def test_an_untouched_sample_is_bit_exact_and_the_range_is_kept():
    x = pictures()
    assert torch.equal(recolour(x, *shift()), x)
    view = recolour(x, *shift(b=3.0, c=2.0))
    assert view.min() >= 0
    assert view.max() == 1


def test_products_of_low_precision_do_not_round_colours():
    x, factors = pictures(), shift(1.2, 0.7, 1.3, 0.07)
    exact = recolour(x, *factors)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(recolour(x, *shift()), x)
        near(recolour(x, *factors), exact, 1e-6)
    finally:
        torch.set_float32_matmul_precision(before)


def test_solarise_is_torchvisions_on_the_chosen():
    x = pictures(2)
    x[:, 0, 0, 0] = 0.25
    view = solarise(x, torch.tensor([True, False]), threshold=0.25)
    assert torch.equal(view[0], TF.solarize(x[0], 0.25))
    assert view[0, 0, 0, 0] == 0.75
    assert torch.equal(view[1], x[1])


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9 has no such setting")
def test_precisions_of_products_may_be_set_either_way():
    """Torch raises an error at the older question once the newer settings were used, be it for another device."""
    x = pictures()
    assert products_are_exact()
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert torch.equal(recolour(x, *shift()), x)
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        assert not products_are_exact()
        assert torch.equal(recolour(x, *shift()), x)
    finally:
        torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "ieee"


@pytest.mark.parametrize(("shape", "radius"), [((16, 16), 1), ((13, 20), 3), ((7, 7), 6), ((130, 11), 4)])
def test_is_torchvisions_by_its_own_width(shape, radius):
    x, sigma = pictures(4, 3, *shape), torch.tensor([0.1, 0.5, 1.0, 2.0])
    view = blur(x, sigma, radius)
    for i, s in enumerate(sigma.tolist()):
        want = TF.gaussian_blur(x[i], [2 * radius + 1] * 2, [s, s])
        near(view[i], want)


def test_zero_is_bit_exact_and_the_kernel_is_a_tenth_of_the_side():
    x, sigma = pictures(3), torch.tensor([0.0, 1.0, 0.0])
    assert torch.equal(blur(x, sigma)[::2], x[::2])
    for side, width in ((32, 3), (96, 9), (224, 23), (5, 3)):
        point = torch.zeros(1, 1, side, side)
        point[..., side // 2, side // 2] = 1
        assert (blur(point, torch.tensor([50.0]))[0, 0, side // 2] > 0).sum() == width
    one = torch.rand(1, 1, 1, 4, generator=generator())
    torch.testing.assert_close(blur(one, torch.ones(1)), one)
