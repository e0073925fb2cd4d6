"""Colour jitter of batches: brightness, contrast, saturation, hue and grey as one matrix; and solarisation.

With Y the luma (ITU-R BT.601) and (I, Q) the chroma of a pixel in YIQ, the four operations of a colour jitter are

    brightness b, contrast c    Y' = b c Y + b (1 - c) mean(Y)
    saturation s, hue h         (I, Q)' = b c s R(2 pi h) (I, Q),     R a rotation in the plane

Grey is saturation 0. They all commute, so there is no order to draw, and in RGB they are one matrix and one offset a
sample:

    x' = (p 1 + (b c - p) G + q K) x + b (1 - c) mean(Y),     p = b c s cos(2 pi h),  q = b c s sin(2 pi h)

where G replaces a pixel by its luma and K turns its chroma by a quarter. A sample with b = c = s = 1 and h = 0 has the
unit matrix, and is left bit for bit as it was.

Differs: from torchvision, which turns the hue in HSV (and so changes the luma), and clamps to [0, 1] after each of the
operations in a random order; this clamps once, after the last. The same turn in YIQ changes pixels about 1.3
times as much. Torchvision's luma weighs red with 0.2989 in place of 0.299.
"""

import math
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@cache
def basis(device: torch.device) -> Float[Tensor, "3 3 3"]:
    """The matrices 1, G and K. Kept a device: copying them there at each step would make the host wait."""
    yiq = torch.tensor(YIQ, dtype=torch.float64, device="cpu")
    # Clockwise in the (I, Q) plane is red to yellow to green, as a growing hue is in HSV.
    quarter = yiq.new_tensor([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return torch.stack([yiq.new_ones(3).diag(), yiq[0].expand(3, 3), yiq.inverse() @ quarter @ yiq]).float().to(device)


def recolour(
    x: Float[Tensor, "b c h w"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Changes the colours of images in [0, 1], and clamps to [0, 1].

    brightness, contrast, saturation: factors, at least 0, 1 for no change. hue: turns, 0 for no change, positive from
    red to green.
    Images that have not three channels have no colour: only brightness and contrast change them.
    """
    gain = brightness * contrast
    mean = x.flatten(2).mean(2)  # (B, C)
    if x.shape[1] != 3:
        offset = (brightness - gain) * mean.mean(1)
        return torch.addcmul(offset.view(-1, 1, 1, 1), gain.view(-1, 1, 1, 1), x).clamp_(0, 1)
    parts = basis(x.device)
    offset = ((brightness - gain) * (mean @ parts[1, 0])).view(-1, 1, 1)
    chroma, turn = gain * saturation, 2 * math.pi * hue
    p, q = chroma * turn.cos(), chroma * turn.sin()
    matrix = (torch.stack([p, gain - p, q], 1)[..., None, None] * parts).sum(1)  # (B, 3, 3)
    if x.device.type == "cpu" and products_are_exact():
        return torch.baddbmm(offset, matrix, x.flatten(2)).clamp_(0, 1).view(x.shape)
    # Not a product if it may be one in TF32 or bfloat16: that would round the colours, untouched samples included.
    column = matrix[..., None, None]  # (B, 3, 3, 1, 1)
    view = torch.addcmul(offset[..., None], column[:, :, 0], x[:, 0:1])  # (B, 3, H, W)
    return view.addcmul_(column[:, :, 1], x[:, 1:2]).addcmul_(column[:, :, 2], x[:, 2:3]).clamp_(0, 1)


def products_are_exact() -> bool:
    """Whether a CPU multiplies float32 matrices in float32, and not in what somebody allowed for speed."""
    mkldnn = torch.backends.mkldnn
    if not hasattr(mkldnn, "matmul"):  # before torch 2.9
        return torch.get_float32_matmul_precision() == "highest"
    # The older question raises an error once the newer settings were used.
    return all(each.fp32_precision in ("none", "ieee") for each in (mkldnn.matmul, mkldnn, torch.backends))


def solarise(
    x: Float[Tensor, "b c h w"], chosen: Bool[Tensor, " b"], threshold: float = 0.5
) -> Float[Tensor, "b c h w"]:
    """Inverts the pixels at or above the threshold, a value in [0, 1], of the chosen images."""
    limit = torch.where(chosen, threshold, torch.inf).view(-1, 1, 1, 1)
    return torch.where(x >= limit, 1 - x, x)
