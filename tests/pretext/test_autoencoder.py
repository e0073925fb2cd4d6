"""The denoising autoencoder: its damage, what its loss is against, what it finds."""

import math

import pytest
import torch
from toys import SHAPE, Conv, batch, context, still, train

from ssl_runner.contract import Batch
from ssl_runner.pretext.autoencoder import Autoencoder


def autoencoder(**settings) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(**{"encoder": Conv(), "shape": SHAPE, "augment": still(), **settings})


def test_damage_has_the_statistics_asked_for():
    grey = Batch(torch.full((200, *SHAPE), 0.5), torch.arange(200))
    damaged, clean = autoencoder(noise=0.1, mask=0.0).views(grey, context())
    assert torch.equal(clean, grey.x)
    assert damaged.std().item() == pytest.approx(0.1, rel=0.02)
    assert damaged.mean().item() == pytest.approx(0.5, abs=0.002)
    damaged, clean = autoencoder(noise=0.0, mask=0.3).views(grey, context())
    black = damaged == 0
    assert torch.equal(black.any(1), black.all(1))  # whole pixels
    assert black.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(damaged[~black], clean[~black])
    damaged, clean = autoencoder(noise=0.0, mask=0.0).views(grey, context())
    assert torch.equal(damaged, clean)


def test_loss_is_against_the_clean_image():
    pretext = autoencoder().eval()
    damaged, clean = views = pretext.views(batch(4), context())
    pictures, loss = pretext.pictures(views), pretext(views)
    error = (pictures["reconstruction"] - clean).square().mean()
    torch.testing.assert_close(loss.value, error)
    assert torch.equal(pictures["input"], damaged)
    assert torch.equal(pictures["target"], clean)
    assert loss.metrics["psnr"].item() == pytest.approx(-10 * math.log10(error.item()), abs=1e-4)


def test_images_need_not_be_square():
    pretext = autoencoder(shape=(3, 8, 10))
    views = pretext.views(batch(4, shape=(3, 8, 10)), context())
    assert pretext.pictures(views)["reconstruction"].shape == (4, 3, 8, 10)


def test_it_finds_what_the_images_have_in_common():
    """Images vary along two planted directions, so a good code explains most of their variance, damaged or not."""
    place = (torch.arange(8) + 0.5) / 8
    down, across = (place[:, None].expand(8, 8), place.expand(8, 8))
    torch.manual_seed(0)
    amount = torch.rand(64, 2)[:, :, None, None]
    x = (amount[:, :1] * down + amount[:, 1:] * across)[:, 0, None].expand(-1, 3, -1, -1).contiguous() / 2
    pretext = autoencoder(noise=0.05, mask=0.05)
    train(pretext, 120, lambda step: x, rate=0.005)
    with torch.no_grad():
        error = pretext.eval()(pretext.views(Batch(x, torch.arange(64)), context(1000))).value
    assert error < 0.5 * (x - x.mean(0)).square().mean()
