"""What is done to images: colours, blur and corruptions as torchvision has them or as they say; masks and windows."""

import math
from functools import reduce

import pytest
import torch
from evaluator_toys import photographs, saved
from images import generator, near, pictures, rng
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import LUMA, products_are_exact, recolour, solarise
from ssl_runner.augment.image.corruption import CORRUPTIONS, STRENGTHS, corrupt
from ssl_runner.augment.image.mask import patchify, random_masks, unpatchify
from ssl_runner.augment.image.window import draw_regions


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


def test_one_matrix_is_any_order_of_the_four():
    x = 0.4 + 0.2 * pictures()  # far from 0 and 1, where torchvision clamps
    b, c, s, h = 1.2, 0.7, 1.3, 0.07
    single = [shift(b=b), shift(c=c), shift(s=s), shift(h=h)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        view = reduce(lambda view, i: recolour(view, *single[i]), order, x)
        near(view, recolour(x, *shift(b, c, s, h)), 1e-6)
    theirs = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(x, b), c), s)
    near(recolour(x, *shift(b, c, s)), theirs, 2e-4)


def test_hue_turns_about_grey_the_way_of_torchvision():
    x, luma = 0.4 + 0.2 * pictures(), torch.tensor(LUMA).view(3, 1, 1)
    turned, grey = recolour(x, *shift(h=0.2)), x[:, :1].expand(-1, 3, -1, -1)
    near((turned * luma).sum(1), (x * luma).sum(1), 1e-6)
    for before, turns, after in ((turned, -0.2, x), (x, 1.0, x), (grey, 0.3, grey)):
        near(recolour(before, *shift(h=turns)), after, 1e-6)
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    assert [recolour(red, *shift(h=turns, n=1)).argmax(1).item() for turns in (1 / 3, -1 / 3)] == [1, 2]
    for turns in (-0.1, 0.05, 0.1):
        ours, theirs = recolour(x, *shift(h=turns)) - x, TF.adjust_hue(x, turns) - x
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.5


def test_each_sample_has_its_own_mean_and_factors_and_one_without_is_bit_exact():
    flat = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 3, 4, 4)  # contrast moves nothing
    parameters = [torch.tensor(v) for v in ([1.0, 1.5], [0.0, 0.5], [1.0, 1.0], [0.0, 0.0])]
    torch.testing.assert_close(recolour(flat, *parameters)[:, 0, 0, 0], torch.tensor([0.2, 0.9]))
    x = pictures()
    assert torch.equal(recolour(x, *shift()), x)
    view = recolour(x, *shift(b=3.0, c=2.0))
    assert 0 <= view.min() <= view.max() == 1


def test_products_of_low_precision_do_not_round_colours():
    x, factors = pictures(), shift(1.2, 0.7, 1.3, 0.07)
    exact, before = recolour(x, *factors), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(recolour(x, *shift()), x)
        near(recolour(x, *factors), exact, 1e-6)
    finally:
        torch.set_float32_matmul_precision(before)


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
def test_blur_is_torchvisions_by_its_own_width_and_solarise_on_the_chosen(shape, radius):
    x, sigma = pictures(4, 3, *shape), torch.tensor([0.1, 0.5, 1.0, 2.0])
    want = [TF.gaussian_blur(x[i], [2 * radius + 1] * 2, [s, s]) for i, s in enumerate(sigma.tolist())]
    near(blur(x, sigma, radius), torch.stack(want))
    x = pictures(2)
    x[:, 0, 0, 0] = 0.25
    view = solarise(x, torch.tensor([True, False]), threshold=0.25)
    assert torch.equal(view, torch.stack([TF.solarize(x[0], 0.25), x[1]]))
    assert view[0, 0, 0, 0] == 0.75


def test_no_blur_is_bit_exact_and_the_kernel_is_a_tenth_of_the_side():
    x, sigma = pictures(3), torch.tensor([0.0, 1.0, 0.0])
    assert torch.equal(blur(x, sigma)[::2], x[::2])
    for side, width in ((32, 3), (96, 9), (224, 23), (5, 3)):
        point = torch.zeros(1, 1, side, side)
        point[..., side // 2, side // 2] = 1
        assert (blur(point, torch.tensor([50.0]))[0, 0, side // 2] > 0).sum() == width
    one = torch.rand(1, 1, 1, 4, generator=generator())
    torch.testing.assert_close(blur(one, torch.ones(1)), one)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_with_its_strength(kind):
    x = photographs()[:40].float() / 255
    results = [corrupt(x, kind, strength, generator()) for strength in STRENGTHS]
    changes = [0.0, *((x - each).square().mean().item() for each in results)]
    assert changes == sorted(set(changes))
    for each in results:
        assert each.shape == x.shape
        assert 0 <= each.min() <= each.max() <= 1
        torch.testing.assert_close(each * 255, (each * 255).round(), atol=1e-3, rtol=0)
    assert torch.equal(corrupt(x, kind, 5, generator()), results[-1])
    assert corrupt(x[:, :1], kind, 3, torch.Generator()).isfinite().all()


def test_each_image_has_its_own_noise_as_strong_as_it_says_and_its_own_occlusion_anywhere_with_the_same_probability():
    x = torch.full((100, 3, 32, 32), 0.5)
    for kind in ("noise", "occlusion"):
        first, other = (corrupt(x[:50] / 2, kind, 5, generator(seed)) for seed in (0, 1))
        assert len(first.unique(dim=0)) > 40
        assert not torch.equal(first, other)
    for strength, deviation in zip(STRENGTHS, CORRUPTIONS["noise"][1], strict=True):
        change = corrupt(x, "noise", strength, generator()) - x
        assert abs(change.mean()) < 4 * deviation / len(x.flatten()) ** 0.5 + 0.5 / 255  # 0.5 lies between two bytes
        assert change.std() == pytest.approx(deviation, rel=0.02)
    # A square of 20 fits in 13 places a side; its corner is uniform over them, and its area is as it says.
    hidden = corrupt(torch.zeros(2600, 1, 32, 32), "occlusion", 5, generator())[:, 0] > 0
    assert torch.equal(hidden.sum((1, 2)), torch.full((2600,), 400))
    for axis in (1, 2):
        counts = hidden.any(axis).int().argmax(1).bincount(minlength=13)
        assert len(counts) == 13
        assert ((counts - 200).abs() < 4.5 * 200**0.5).all()


def test_corruptions_keep_what_they_do_not_name():
    """Brightness keeps hue and saturation, contrast keeps the mean, and a blur keeps flat images."""
    brightness, contrast, smooth = (CORRUPTIONS[kind][0] for kind in ("brightness", "contrast", "blur"))
    colour, rng = torch.tensor([0.4, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4), torch.Generator()
    torch.testing.assert_close(brightness(colour, 0.2, rng)[0, :, 0, 0], torch.tensor([0.6, 0.3, 0.15]))
    torch.testing.assert_close(brightness(torch.zeros(1, 3, 2, 2), 0.2, rng), torch.full((1, 3, 2, 2), 0.2))
    x, flat = torch.rand(2, 3, 16, 16, generator=generator()), torch.full((2, 3, 16, 16), 0.4)
    changed = contrast(x, 0.3, rng)
    torch.testing.assert_close(changed.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close((changed.std((2, 3)), smooth(flat, 1.0, rng)), (0.3 * x.std((2, 3)), flat))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_would_hold(channels):
    x = photographs()[:5, :channels]
    ours = corrupt(x.float() / 255, "jpeg", 5, torch.Generator()) * 255
    torch.testing.assert_close(ours, torch.stack([saved(each, format="jpeg", quality=40) for each in x]).float())
    assert (ours - x).abs().mean() > 3


def test_masks_are_uniform_partitions_of_each_sample_and_patches_an_image_cut_up():
    keep, masked = random_masks(3000, 10, 3, rng())
    assert keep.shape == (3000, 3)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(10).expand(3000, 10))
    share = torch.bincount(keep.flatten(), minlength=10) / 3000
    assert (share - 0.3).abs().max() < 0.045  # five standard deviations
    assert len(keep.sort(1).values.unique(dim=0)) > 100  # of the 120 subsets
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    patches = patchify(x, (2, 3))
    assert patches.shape == (2, 4, 18)
    # the second patch is the right half of the first two rows, channels last
    assert torch.equal(patches[1, 1], x[1, :, :2, 3:].permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), x)


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_regions_are_bins_of_the_places_where_a_window_fits(grid, jitter):
    region, top, left = draw_regions(4000, grid, 0.4, jitter, rng())
    places = torch.stack((top, left)) / 0.6 * grid  # in bins, down and across
    assert torch.equal(region, torch.tensor([grid, 1]) @ places.long())
    assert 0 <= places.min() <= places.max() <= grid * (1 + 1e-6)
    within = places.frac()
    assert (within - 0.5).abs().max() <= jitter / 2 + 1e-4
    assert within.std().item() == pytest.approx(jitter / math.sqrt(12), abs=0.01)
    assert torch.corrcoef(within)[0, 1].nan_to_num().abs() < 0.06 or jitter == 0  # down and across are separate draws
