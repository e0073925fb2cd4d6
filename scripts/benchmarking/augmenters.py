"""A recipe of the runner's (`Views`) in the words of torchvision and kornia, parameter by parameter.

The same: the crop's area and ratio, flip, the probability and strength of the colour jitter, grey, bilinear resampling,
and no blur. What differs is theirs: they turn the hue in HSV and clamp after each operation in a random order.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarking.work import SIDE
from ssl_runner.augment.image.views import Views


def torchvision_pil(views: Views) -> Callable[[Image.Image], Tensor]:
    """As in solo-learn's CIFAR transform: one PIL image at a time, to a float tensor in [0, 1].

    Differs: crops by bilinear and not by bicubic interpolation, and does not normalise, for the encoder does.
    """
    from torchvision import transforms as T

    return T.Compose([*of_torchvision(T, views), T.ToTensor()])


def torchvision_tensor(views: Views) -> Callable[[Tensor], Tensor]:
    """torchvision's v2 transforms on one uint8 tensor at a time, to a float tensor in [0, 1]."""
    from torchvision.transforms import v2 as T

    return T.Compose([*of_torchvision(T, views), T.ToPureTensor(), T.ToDtype(torch.float32, scale=True)])


def of_torchvision(T: Any, views: Views) -> list[Any]:
    """Crop, colour and flip of torchvision's transforms, of the module that is given: the first version or v2."""
    jitter = T.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
    colour = [T.RandomApply([jitter], views.jitter), T.RandomGrayscale(views.grey)] if views.jitter else []
    return [T.RandomResizedCrop(SIDE, views.scale, views.ratio), *colour, T.RandomHorizontalFlip(views.flip)]


def kornia_batched(views: Views, device: torch.device) -> nn.Module:
    """kornia's operations on a batch, each image with draws of its own, chained as in kornia's tutorials.

    The crop resamples the batch at once, which is faster than kornia's default of cutting image by image.
    """
    import kornia.augmentation as K

    operations: list[nn.Module] = [
        K.RandomResizedCrop((SIDE, SIDE), views.scale, views.ratio, cropping_mode="resample"),
        K.RandomHorizontalFlip(p=views.flip),
    ]
    if views.jitter:
        strengths = (views.brightness, views.contrast, views.saturation, views.hue)
        operations += [K.ColorJitter(*strengths, p=views.jitter), K.RandomGrayscale(p=views.grey)]
    return nn.Sequential(*(each.to(device) for each in operations))  # one by one: kornia's own `to` moves the draws too
