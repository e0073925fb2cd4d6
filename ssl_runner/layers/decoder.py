"""Convolutional image decoder: a vector to an image, for autoencoders and generators.

Upsample and convolve rather than transposed convolutions: A. Odena, V. Dumoulin, C. Olah, "Deconvolution and
Checkerboard Artifacts", Distill 2016. Batch norm and ReLU in every layer but the last: A. Radford, L. Metz, S.
Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR 2016,
arXiv 1511.06434.
"""

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class Decoder(nn.Module):
    """A vector to an image in [0, 1]: a linear layer to a small grid, then doublings of it until the image is covered.

    The grid's shorter side is 4 to 8 (the image's own if that is less than 8), so 28, 32, 96 and 224 pixels are met
    exactly; other sizes are covered with less than one cell to spare, which is cut off.

    dim: width of the vector. shape: (C, H, W), any sides of 1 pixel or more. width: channels of the grid; half as many
    after each doubling, never fewer than 16.
    Raises ValueError if `shape` is no image's.
    """

    def __init__(self, dim: int, shape: tuple[int, ...], width: int = 128):
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"Decoder makes images (C, H, W), not samples of shape {tuple(shape)}")
        channels, *self.size = shape
        doublings = max(0, int(math.log2(min(self.size) / 4)))
        grid = [math.ceil(side / 2**doublings) for side in self.size]
        widths = [max(16, width // 2**i) for i in range(doublings + 1)]
        self.grid = nn.Sequential(
            nn.Linear(dim, widths[0] * math.prod(grid), bias=False),
            nn.Unflatten(1, (widths[0], *grid)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.doublings = nn.Sequential(*(doubling(a, b) for a, b in pairwise(widths)))
        self.image = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        height, width = self.size
        x = self.image(self.doublings(self.grid(z)))  # (B, C, >= H, >= W)
        return x[..., :height, :width].float().sigmoid()  # float32: bfloat16 steps by 1/256 near white


def doubling(before: int, after: int) -> nn.Sequential:
    """Twice the height and width, in `after` channels."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
