"""Structural similarity of small images, whatever their brightness and contrast and a shift by a few pixels.

Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity, IEEE
Transactions on Image Processing 13(4), 2004: contrast and structure in small windows. Correlation alone is not enough:
silhouettes that coincide before different backgrounds reach 0.95.
Differs: brightness is left out and the images are brought to one contrast before; even windows of 7 x 7, not Gaussian;
the channels' covariances are added up, so that a channel counts by what is in it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ssl_runner.data.resize import grey

REACH = 2  # pixels that one image may be shifted against the other
FLAT = 2.0  # grey levels: with a smaller standard deviation an image has no content to compare
RELATED = 0.7  # correlation of two grey images below which they are not compared any closer
STEADY = (0.03 * 255 / 50) ** 2  # the paper's C2, in units of an image whose deviation is 50 grey levels


def structural_similarity(a: UInt8[Tensor, "p c side side"], b: UInt8[Tensor, "p c side side"]) -> Float[Tensor, " p"]:
    """Mean similarity, at most 1, of the centre of each `a` and its `b` at the best shift.

    It is 0 if they are unrelated, or if one of them is flat.
    """
    values = torch.zeros(len(a))
    if len(a) == 0:
        return values
    u, v, correlation = align(a, b)
    u, v = u - u.mean((2, 3), keepdim=True), v - v.mean((2, 3), keepdim=True)
    contrasts = [each.square().mean((1, 2, 3)).sqrt() for each in (u, v)]  # (p,)
    rows = ((correlation >= RELATED) & (torch.minimum(*contrasts) >= FLAT)).nonzero().flatten()
    u, v = (each[rows] / contrast[rows, None, None, None] for each, contrast in zip((u, v), contrasts, strict=True))

    def local(z: Tensor) -> Tensor:
        return F.avg_pool2d(z, 7, 1)

    covariance = (local(u * v) - local(u) * local(v)).mean(1)  # (r, i, i)
    variances = (local(u * u) - local(u).square() + local(v * v) - local(v).square()).mean(1)
    values[rows] = ((2 * covariance + STEADY) / (variances + STEADY)).mean((1, 2))  # equation 13, its second factor
    return values


def align(
    a: UInt8[Tensor, "p c side side"], b: UInt8[Tensor, "p c side side"]
) -> tuple[Float[Tensor, "p c w w"], Float[Tensor, "p c w w"], Float[Tensor, " p"]]:
    """The centre of each `a`, the part of its `b` that correlates best with it in grey, and that correlation."""
    window, inner = a.shape[-1] - 2 * REACH, slice(REACH, -REACH)
    fixed, moved = grey(a)[:, inner, inner], grey(b)[:, None] - 128  # (p, window, window), (p, 1, side, side)
    fixed = fixed - fixed.mean((1, 2), keepdim=True)
    products = F.conv2d(moved.transpose(0, 1), fixed[:, None], groups=len(a))[0] / window**2  # (p, shifts, shifts)
    variance = F.avg_pool2d(moved.square(), window, 1)[:, 0] - F.avg_pool2d(moved, window, 1)[:, 0].square()
    deviations = variance.clamp(min=1).sqrt() * fixed.square().mean((1, 2), keepdim=True).clamp(min=1).sqrt()
    correlation, best = (products / deviations).flatten(1).max(1)
    y, x = best // (2 * REACH + 1), best % (2 * REACH + 1)
    every, at = torch.arange(len(a))[:, None, None], torch.arange(window)
    part = b[every, :, (y[:, None] + at)[:, :, None], (x[:, None] + at)[:, None]].movedim(3, 1)
    return a[:, :, inner, inner].float(), part.float(), correlation
