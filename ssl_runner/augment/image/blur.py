"""Gaussian blur of batches, of a width a sample: along one side of the image and then along the other."""

from functools import lru_cache

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
    offsets = torch.arange(radius + 1, device=x.device, dtype=x.dtype)
    # Narrower than 0.05 px a Gaussian is 1 at the centre and 0 elsewhere in float32, and 0 itself would divide by zero.
    half = torch.exp(-0.5 * (offsets / sigma.clamp(min=0.05)[:, None]) ** 2)  # (B, R + 1) from the centre outwards
    half = F.threshold(half, 1e-9, 0)  # nothing beside 1 in float32, and many times slower once subnormal
    half = (half / (2 * half.sum(1, keepdim=True) - 1)).repeat_interleave(c, 0)  # (B C, R + 1)
    if x.device.type == "cpu" and max(h, w) <= 128:
        # A CPU multiplies small matrices 20 times as fast as it convolves with a kernel a sample, and wins with them
        # even if nine tenths of what they multiply is 0.
        down = (half @ reads(h, radius, x.device)).view(b * c, h, h)  # (B C, H, H)
        across = down if h == w else (half @ reads(w, radius, x.device)).view(b * c, w, w)  # (B C, W, W)
        return (down @ (x.flatten(0, 1) @ across.mT)).view(b, c, h, w)
    kernel = torch.cat([half.flip(1), half[:, 1:]], 1)  # (B C, K)
    view = F.pad(x, (radius,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, B C, H + K - 1, W + K - 1)
    view = F.conv2d(view, kernel[:, None, None, :], groups=b * c)  # (1, B C, H + K - 1, W)
    return F.conv2d(view, kernel[:, None, :, None], groups=b * c).view(b, c, h, w)


@lru_cache(maxsize=8)
def reads(n: int, radius: int, device: torch.device) -> Float[Tensor, "k nn"]:
    """How often each of n pixels in a row reads each of them with the weight of a distance; by distance, then pairs."""
    pixel, offset = torch.arange(n, device=device)[:, None], torch.arange(-radius, radius + 1, device=device)
    read = n - 1 - (n - 1 - (pixel + offset).abs()).abs()  # (N, K), reflected at both edges
    times = torch.zeros(radius + 1, n, n, device=device)
    times.index_put_((offset.abs(), pixel, read), torch.ones((), device=device), accumulate=True)
    return times.flatten(1)
