"""Common corruptions of images at five strengths: what a frozen encoder meets that it was not trained for.

Hendrycks & Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019,
arXiv 1903.12261, with the strengths of CIFAR-10-C, which are made for images of 32 x 32. Occlusion is after DeVries &
Taylor, Improved regularization of convolutional neural networks with cutout, 2017, arXiv 1708.04552.
Differs: seven corruptions of the nineteen, occlusion among them; a blur grows with the image, so that it hides as much
of a larger one; salt and pepper is of whole pixels, at the strengths of impulse noise. As in CIFAR-10-C, what comes out
is rounded to 8 bits.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ssl_runner.augment.image.blur import blur as blurred

Images = Float[Tensor, "b c h w"]


def noise(x: Images, deviation: float, rng: torch.Generator) -> Images:
    """Gaussian, of every channel of every pixel by itself; its deviation is in units of the full range."""
    # Drawn where the generator is: the images are then the same on every device.
    return x + deviation * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)


def salt_and_pepper(x: Images, share: float, rng: torch.Generator) -> Images:
    """Makes a share of the pixels black or white, as many of each."""
    u = torch.rand(len(x), 1, *x.shape[2:], generator=rng, device=rng.device).to(x.device)
    return torch.where(u < share / 2, 0.0, torch.where(u > 1 - share / 2, 1.0, x))


def blur(x: Images, sigma: float, rng: torch.Generator) -> Images:
    """Gaussian; sigma is in pixels of an image of 32."""
    sigma *= min(x.shape[2:]) / 32
    return blurred(x, x.new_full((len(x),), sigma), radius=math.ceil(4 * sigma))


def brightness(x: Images, shift: float, rng: torch.Generator) -> Images:
    """Adds to the value of HSV (the largest channel) and leaves hue and saturation as they are."""
    value = x.amax(1, keepdim=True)
    risen = (value + shift).clamp(max=1)
    return torch.where(value > 0, x * (risen / value.clamp(min=1e-6)), risen)


def contrast(x: Images, factor: float, rng: torch.Generator) -> Images:
    """Shrinks the distance of each pixel to the mean of its channel."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def occlusion(x: Images, share: float, rng: torch.Generator) -> Images:
    """A grey rectangle over a share of the image, its place drawn from all where it fits."""
    b, _, h, w = x.shape
    height, width = round(h * math.sqrt(share)), round(w * math.sqrt(share))
    u = torch.rand(b, 2, generator=rng, device=rng.device).to(x.device)
    top, left = (u[:, 0] * (h - height + 1)).floor()[:, None], (u[:, 1] * (w - width + 1)).floor()[:, None]
    y, z = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    rows, columns = (y >= top) & (y < top + height), (z >= left) & (z < left + width)  # (b, h), (b, w)
    return x.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0.5)


def jpeg(x: Images, quality: float, rng: torch.Generator) -> Images:
    """Compressed and decoded again; quality from 1 to 100."""
    decoded = []
    for image in (x * 255).round().to(torch.uint8).movedim(1, 3).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "jpeg", quality=int(quality))
        decoded.append(torch.from_numpy(np.array(Image.open(file, formats=["JPEG"]))).view(image.shape))
    return torch.stack(decoded).movedim(3, 1).to(x.device) / 255


CORRUPTIONS: dict[str, tuple[Callable[[Images, float, torch.Generator], Images], tuple[float, ...]]] = {
    "noise": (noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "salt_and_pepper": (salt_and_pepper, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "blur": (blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "occlusion": (occlusion, (0.05, 0.1, 0.2, 0.3, 0.4)),
    "jpeg": (jpeg, (80.0, 65.0, 58.0, 50.0, 40.0)),
}
STRENGTHS = (1, 2, 3, 4, 5)


def corrupt(x: Images, kind: str, strength: int, rng: torch.Generator) -> Images:
    """Images in [0, 1] of one or three channels, corrupted at a strength from 1 to 5, in steps of 1/255.

    What is random is drawn for each image by itself from `rng`; a generator in the same state draws the same at every
    strength, so that a stronger corruption is more of a weaker one.
    """
    apply, amounts = CORRUPTIONS[kind]
    return (apply(x, amounts[strength - 1], rng).clamp(0, 1) * 255).round() / 255
