"""Multi-crop: a few global views of an image, and many local ones, which are smaller.

Mathilde Caron, Ishan Misra, Julien Mairal, Priya Goyal, Piotr Bojanowski, Armand Joulin, "Unsupervised Learning of
Visual Features by Contrasting Cluster Assignments", NeurIPS 2020, arXiv 2006.09882, section 3.3.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Rng


def local_recipe(local: Views, augment: Views, shape: tuple[int, int, int]) -> Views:
    """The recipe of local views; one without a size makes them half as large as the global ones of `augment`.

    shape: (channels, height, width) of a sample.
    """
    return replace(local, size=local.size or max(1, (augment.size or min(shape[1:])) // 2))


def require_equal_sizes(augment: Views, augment_prime: Views) -> None:
    """Raises ValueError if the two recipes of global views differ in size."""
    if augment.size != augment_prime.size:
        raise ValueError(
            f"the global views differ in size, {augment.size} and {augment_prime.size} px; "
            f"type pretext.augment_prime.size={'null' if augment.size is None else augment.size}"
        )


def multi_crop(
    x: Float[Tensor, "b c h w"], rng: Rng, recipes: Sequence[Views], local: Views, local_views: int
) -> tuple[Tensor, ...]:
    """Global views (len(recipes) * B, C, H, W), one of each recipe, and local ones (local_views * B, C, h, w), if any.

    Both are view after view, so that rows i, B + i, 2 B + i are of one sample.
    """
    views = torch.cat([recipe(x, rng) for recipe in recipes])
    return (views, local(x.repeat(local_views, 1, 1, 1), rng)) if local_views else (views,)
