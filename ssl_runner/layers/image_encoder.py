"""Image encoders: pixel normalisation as the first layer, and convolutional networks that end in a map."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder, Features
from ssl_runner.layers.weights import device_of


class ImageEncoder(Encoder):
    """An encoder of images in [0, 1] that normalises them itself: mean and std, a number a channel, are buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def normalise(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Zero mean and unit variance a channel over the training set."""
        return (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def cannot_drop_tokens(self, *_: Any, **__: Any) -> NoReturn:
        """Raises ValueError: the encoder is not `in_two_steps`."""
        raise ValueError(f"{type(self).__name__} cannot drop tokens; use model=vit_tiny for masked methods")

    embed = encode = cannot_drop_tokens


class MapEncoder(ImageEncoder):
    """An encoder whose `layers` end in a map. Tokens are its positions; pooled is their mean."""

    layers: nn.Sequential

    def forward(self, x: Float[Tensor, "b c h w"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Raises ValueError if `keep` is given."""
        if keep is not None:
            self.cannot_drop_tokens()
        maps = self.layers(self.normalise(x))  # (B, dim, h, w)
        tokens = maps.flatten(2).transpose(1, 2)  # (B, n, dim)
        return Features(pooled=tokens.mean(1), tokens=tokens, grid=tuple(maps.shape[2:]))


@torch.no_grad()
def grid_of(encoder: Encoder, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens an axis for a sample of `shape`: an encoder tells it by encoding one, here zeros in eval mode."""
    training = encoder.training
    grid = encoder.eval()(torch.zeros(1, *shape, device=device_of(encoder))).grid
    encoder.train(training)
    return grid


def patch_grid(
    encoder: Encoder, shape: tuple[int, int, int], size: int | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of the patches that an encoder cuts samples of `shape` into, and (height, width) of one in px.

    size: side of square views, if they are not as large as the samples.
    Raises ValueError if its tokens are no equal patches, or a single one.
    """
    tall, wide = (size, size) if size else shape[1:]
    grid = grid_of(encoder, (shape[0], tall, wide))
    if len(grid) != 2 or tall % grid[0] or wide % grid[1] or grid == (1, 1):
        raise ValueError(f"a grid of {grid} tokens cuts {tall}x{wide} px into no equal patches; set model.patch")
    return (grid[0], grid[1]), (tall // grid[0], wide // grid[1])


@torch.no_grad()
def spectrogram_grid(encoder: Encoder, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(times, bands) of the patches that an encoder cuts spectrograms into, and (frames, bands) of one.

    shape: of a clip. Raises ValueError for an encoder that cannot drop patches of a spectrogram.
    """
    if not (encoder.in_two_steps and hasattr(encoder, "normalise")):
        raise ValueError(f"{type(encoder).__name__} has no patches of a spectrogram to hide; type model=ast_tiny")
    frames, mels = encoder.normalise(torch.zeros(1, *shape, device=device_of(encoder))).shape[2:]
    times, bands = (*grid_of(encoder, shape), 1)[:2]
    return (times, bands), (frames // times, mels // bands)


def require_tokens(encoder: Encoder) -> None:
    """Raises ValueError if an encoder cannot drop and hide tokens."""
    if not encoder.in_two_steps:
        ImageEncoder.cannot_drop_tokens(encoder)


@torch.no_grad()
def require_layers(encoder: Encoder, x: Tensor, layers: int) -> None:
    """Raises ValueError if an encoder does not have that many blocks."""
    try:
        encoder.encode(encoder.embed(x.to(device_of(encoder))), layers=range(-layers, 0))
    except ValueError as error:
        raise ValueError(f"pretext.layers={layers}: {str(error).partition(': ')[2]}; type pretext.layers=1") from error


def check_encodable(encoder: Encoder, channels: int, side: int, views: str, remedy: str) -> None:
    """Raises ValueError, with what to type, if an encoder cannot encode views of some pixels a side."""
    try:
        grid_of(encoder, (channels, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        refusal = f"{type(encoder).__name__} cannot encode {views} of {side}x{side} px ({error}); type {remedy}"
        raise ValueError(refusal) from error


def check_local_views(encoder: Encoder, channels: int, side: int) -> None:
    """Raises ValueError if an encoder cannot encode local views of some pixels a side."""
    remedy = f"pretext.augment_local.size={2 * side} or pretext.local_views=0"
    check_encodable(encoder, channels, side, "local views", remedy)
