"""Convolutional encoders: counts and outputs by hand, stems, torchvision's weights."""

import pytest
import torch
from encoders import colours, images
from torch import nn

from ssl_runner.model.convnet import ConvNet
from ssl_runner.model.resnet import ResNet


def test_convnet_parameters_by_hand():
    def count(**given):
        return sum(p.numel() for p in ConvNet(shape=(3, 32, 32), **colours(3), **given).parameters())

    weights = 9 * (3 * 64 + 64 * 128 + 128 * 256)
    assert count(batch_norm=False) == weights + 64 + 128 + 256 == 370_816
    assert count(batch_norm=True) == weights + 2 * (64 + 128 + 256) == 371_264
    assert count(batch_norm=False, widths=(8,)) == 9 * 3 * 8 + 8


@torch.no_grad()
def test_convnet_by_hand():
    """A sum over 3x3 pixels, of which a corner of the image has four, and the max-pool takes the largest."""
    encoder = ConvNet(shape=(1, 2, 4), mean=(1.0,), std=(2.0,), widths=(1,), batch_norm=False)
    encoder.layers[0].weight.fill_(1)
    x = torch.tensor([[[[3.0, 1, 1, 1], [1, 1, 1, -1]]]])  # normalised: 1 at the left, -1 at the right
    for bias, tokens in ((-1, [0, 0]), (2, [3, 1])):  # the sums are 1 1 -1 -1 in both rows, before the bias and ReLU
        encoder.layers[0].bias.fill_(bias)
        features = encoder(x)
        assert features.tokens.flatten().tolist() == tokens
        assert features.pooled.item() == sum(tokens) / 2
    assert features.grid == (1, 2)


def test_convnet_says_how_many_layers_fit():
    with pytest.raises(ValueError, match=r"at least 8x8, given 4x7; give model\.widths at most 2 entries"):
        ConvNet(shape=(3, 4, 7), **colours(3))
    ConvNet(shape=(3, 4, 7), **colours(3), widths=(8, 8))


@pytest.mark.parametrize(
    ("size", "stem", "grid"),
    [
        ((64, 64), "auto", (8, 8)),
        ((65, 32), "auto", (3, 1)),
        ((64, 64), "large", (2, 2)),
        ((96, 96), "small", (12, 12)),
    ],
)
@torch.no_grad()
def test_stem_of_resnet_goes_by_the_longer_side(size, stem, grid, rng):
    encoder = ResNet(shape=(3, *size), **colours(3), stem=stem).eval()
    assert encoder(images(rng, 1, (3, *size))).grid == grid


@torch.no_grad()
def test_resnet_with_the_large_stem_is_torchvisions(rng):
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=1)
    theirs.fc = nn.Identity()
    encoder = ResNet(shape=(3, 96, 96), **colours(3))
    assert encoder.layers.load_state_dict(theirs.state_dict(), strict=False) == ([], [])
    x = images(rng, 2, (3, 96, 96))
    torch.testing.assert_close(encoder.eval()(x).pooled, theirs.eval()(encoder.normalise(x)))
