"""Images and settings of views for the tests of augmentation."""

import torch
from torch.nn import functional as F

from ssl_runner.layers.counter_rng import CounterRng

OFF = {"scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
EVERYTHING = {"vertical_flip": 0.5, "degrees": 30.0, "blur": 0.5, "solarise": 0.5}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rng(seed: int = 0) -> CounterRng:
    return CounterRng(seed, torch.device("cpu"))


def pictures(n: int = 8, c: int = 3, h: int = 16, w: int = 16, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures that use most of [0, 1]."""
    x = torch.rand(n, c, h // 3 + 2, w // 3 + 2, generator=generator(seed))
    return F.interpolate(x, (h, w), mode="bilinear", align_corners=False)


def near(ours: torch.Tensor, theirs: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)
