"""Encoders and images as the tests of encoders build them."""

import torch

from ssl_runner.model.timm import Timm
from ssl_runner.model.vit import ViT


def colours(channels: int) -> dict:
    return {"mean": (0.5, 0.4, 0.3)[:channels], "std": (0.2, 0.25, 0.3)[:channels]}


def images(rng: torch.Generator, number: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(number, *shape, generator=rng)


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def vit(shape=(3, 16, 24), **given) -> ViT:
    torch.manual_seed(0)
    return ViT(shape=shape, **colours(shape[0]), **{"width": 16, "depth": 2, "heads": 2, "patch": 4} | given)


def timm(name: str, shape=(3, 64, 96)) -> Timm:
    torch.manual_seed(0)
    return Timm(shape=shape, **colours(shape[0]), name=name)
