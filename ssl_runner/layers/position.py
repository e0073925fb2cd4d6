"""Fixed sine-cosine positions for encoders and for the decoders of masked methods, and the grid of a token sequence.

Attention Is All You Need, Vaswani et al., NeurIPS 2017, arXiv:1706.03762, section 3.5; in two dimensions as in
Masked Autoencoders Are Scalable Vision Learners, He et al., CVPR 2022, arXiv:2111.06377, appendix A.1.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def sine_cosine(grid: tuple[int, ...], dim: int) -> Float[Tensor, "n {dim}"]:
    """The position of each token of a grid, in raster order, on the CPU.

    Each axis has an equal share of `dim`: its sines at wavelengths from 2π to 10000 · 2π tokens, then its cosines.

    grid: tokens an axis, (h, w) or (t,); n is their product.
    Raises ValueError if `dim` cannot be shared evenly among sine and cosine of each axis.
    """
    share = 2 * len(grid)
    if dim % share:
        raise ValueError(
            f"a width of {dim} has no sine-cosine positions of {len(grid)} axes; use a multiple of {share}"
        )
    frequency = 10_000.0 ** -(torch.arange(dim // share, dtype=torch.float64) * share / dim)
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid)).view(-1, len(grid), 1)
    angle = places * frequency  # (n, axes, dim / share)
    return torch.cat([angle.sin(), angle.cos()], dim=2).flatten(1).float()  # (n, dim)


def grid_of(tokens: int, aspect: float) -> tuple[int, ...]:
    """(rows, columns) of a sequence of tokens in raster order; `aspect`: the image's height over its width.

    (tokens,) if they do not fill a rectangle of about this aspect.
    """
    rows = max(1, round((tokens * aspect) ** 0.5))
    return (rows, tokens // rows) if tokens % rows == 0 else (tokens,)
