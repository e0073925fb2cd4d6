"""Corruptions of images: stronger with strength, drawn for each image, and as they say."""

import pytest
import torch
from evaluator_toys import photographs, saved

from ssl_runner.augment.image.corruption import CORRUPTIONS, STRENGTHS, corrupt


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_with_its_strength(kind):
    x = photographs()[:40].float() / 255
    results = [corrupt(x, kind, strength, torch.Generator().manual_seed(0)) for strength in STRENGTHS]
    changes = [(x - each).square().mean().item() for each in results]
    assert changes[0] > 0
    assert changes == sorted(changes)
    assert len(set(changes)) == 5
    for each in results:
        assert each.shape == x.shape
        assert each.min() >= 0
        assert each.max() <= 1
        torch.testing.assert_close(each * 255, (each * 255).round(), atol=1e-3, rtol=0)
    assert torch.equal(corrupt(x, kind, 5, torch.Generator().manual_seed(0)), results[-1])
    assert corrupt(x[:, :1], kind, 3, torch.Generator()).isfinite().all()


@pytest.mark.parametrize("kind", ["noise", "occlusion"])
def test_each_image_has_a_draw_of_its_own(kind):
    x = torch.full((50, 3, 32, 32), 0.25)
    first = corrupt(x, kind, 5, torch.Generator().manual_seed(0))
    assert len({each.numpy().tobytes() for each in first}) > 40
    assert not torch.equal(first, corrupt(x, kind, 5, torch.Generator().manual_seed(1)))


def test_noise_is_centred_and_as_strong_as_it_says():
    x = torch.full((100, 3, 32, 32), 0.5)
    for strength, deviation in zip(STRENGTHS, CORRUPTIONS["noise"][1], strict=True):
        change = corrupt(x, "noise", strength, torch.Generator().manual_seed(0)) - x
        assert abs(change.mean()) < 4 * deviation / len(x.flatten()) ** 0.5 + 0.5 / 255  # 0.5 lies between two bytes
        assert change.std() == pytest.approx(deviation, rel=0.02)


def test_occlusion_lies_anywhere_with_the_same_probability():
    """A square of 20 fits in 13 places a side; its corner is uniform over them, and its area is as it says."""
    hidden = corrupt(torch.zeros(2600, 1, 32, 32), "occlusion", 5, torch.Generator().manual_seed(0))[:, 0] > 0
    assert torch.equal(hidden.sum((1, 2)), torch.full((2600,), 400))
    for axis in (1, 2):
        counts = hidden.any(axis).int().argmax(1).bincount(minlength=13)
        assert len(counts) == 13
        assert ((counts - 200).abs() < 4.5 * 200**0.5).all()


def test_brightness_leaves_hue_and_saturation():
    brighten = CORRUPTIONS["brightness"][0]
    x = torch.tensor([0.4, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(brighten(x, 0.2, torch.Generator())[0, :, 0, 0], torch.tensor([0.6, 0.3, 0.15]))
    black = brighten(torch.zeros(1, 3, 2, 2), 0.2, torch.Generator())
    torch.testing.assert_close(black, torch.full((1, 3, 2, 2), 0.2))


def test_contrast_keeps_the_mean_and_blur_keeps_flat_images():
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = CORRUPTIONS["contrast"][0](x, 0.3, torch.Generator())
    torch.testing.assert_close(changed.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(changed.std((2, 3)), 0.3 * x.std((2, 3)))
    flat = torch.full((2, 3, 16, 16), 0.4)
    torch.testing.assert_close(CORRUPTIONS["blur"][0](flat, 1.0, torch.Generator()), flat)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_would_hold(channels):
    x = photographs()[:5, :channels]
    ours = corrupt(x.float() / 255, "jpeg", 5, torch.Generator()) * 255
    torch.testing.assert_close(ours, torch.stack([saved(each, format="jpeg", quality=40) for each in x]).float())
    assert (ours - x).abs().mean() > 3
