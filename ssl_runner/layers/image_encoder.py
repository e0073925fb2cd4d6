"""Image encoders: pixel normalisation as the first layer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder


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
