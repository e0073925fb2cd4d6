"""Convolutional decoders: a vector to an image, for autoencoders and generators, and tokens to a finer map.

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


class MapDecoder(nn.Module):
    """Tokens of a grid to a map of `channels` in float32: upsampled step by step, never more than twofold.

    dim: width of a token. grid: (rows, columns) of tokens. size: (h, w) of the map, no smaller than the grid. width:
    channels after the first step; half as many after each further one, never fewer than 16.
    """

    def __init__(self, dim: int, grid: tuple[int, ...], channels: int, size: tuple[int, int], width: int = 128):
        super().__init__()
        self.to_map = nn.Unflatten(2, grid)
        sizes = [size] if size != grid else []
        while sizes and any(side > 2 * cells for side, cells in zip(sizes[0], grid, strict=True)):
            sizes.insert(0, ((sizes[0][0] + 1) // 2, (sizes[0][1] + 1) // 2))
        widths = [dim, *(max(16, width // 2**i) for i in range(len(sizes)))]
        self.steps = nn.Sequential(*(doubling(a, b, to) for (a, b), to in zip(pairwise(widths), sizes, strict=True)))
        self.map = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b c h w"]:
        return self.map(self.steps(self.to_map(tokens.transpose(1, 2)))).float()


def doubling(before: int, after: int, size: tuple[int, int] | None = None) -> nn.Sequential:
    """Twice the height and width, or as many pixels as `size` has, in `after` channels."""
    return nn.Sequential(
        nn.Upsample(size, scale_factor=None if size else 2, mode="nearest"),
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
