"""The decoder makes images of any size, and each pixel answers to the vector."""

import pytest
import torch

from ssl_runner.layers.decoder import Decoder


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
