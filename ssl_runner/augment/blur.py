"""How sharp a view is: a Gaussian blur of a width a sample, as two one-dimensional grouped convolutions."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def blur(
    x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], radius: int | None = None
) -> Float[Tensor, "b c h w"]:
    """Blurs each image by a normalised Gaussian of its own standard deviation, reflecting it past the edges.

    sigma: pixels, at least 0; an image with 0 is left bit for bit as it was.
    radius: pixels; the kernel is 2 radius + 1 wide. By default a tenth of the shorter side, and never less than 3 wide
    (Chen et al., A Simple Framework for Contrastive Learning, ICML 2020, arXiv 2002.05709, appendix A).
    """
    b, c, h, w = x.shape
    radius = max(1, min(h, w) // 20) if radius is None else radius
    radius = min(radius, min(h, w) - 1)  # what a reflection can pad
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    # Narrower than 0.05 px a Gaussian is 1 at the centre and 0 elsewhere in float32, and 0 itself would divide by zero.
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)[:, None]) ** 2)  # (B, K)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)  # (B C, K)
    view = F.pad(x, (radius,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, B C, H + K - 1, W + K - 1)
    view = F.conv2d(view, kernel[:, None, None, :], groups=b * c)  # (1, B C, H + K - 1, W)
    return F.conv2d(view, kernel[:, None, :, None], groups=b * c).view(b, c, h, w)
