"""Causal and prefix attention: which patches in raster order attend to which, for autoregressive tasks."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ssl_runner.contract import Encoder
from ssl_runner.layers.image_encoder import require_tokens


def causal_pairs(tokens: int) -> Bool[Tensor, "n n"]:
    """(query, key) pairs: each token attends to itself and to those before it."""
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()


def prefix_pairs(causal: Bool[Tensor, "n n"], prefix: Int[Tensor, " b"]) -> Bool[Tensor, "b n n"]:
    """The pairs of `causal`, and all those whose key is among the first `prefix` tokens of its sample."""
    return causal | (torch.arange(len(causal), device=prefix.device) < prefix[:, None])[:, None]


def require_causal(encoder: Encoder) -> None:
    """Raises ValueError if an encoder cannot hide tokens from each other, or has a token that would learn nothing.

    No patch may attend to a class token, which sees all of them: nothing is predicted from it.
    """
    require_tokens(encoder)
    if getattr(encoder, "prefix", 0):
        given = f"{type(encoder).__name__} has a class or register token, which learns nothing from causal attention"
        raise ValueError(f"{given}; type model=vit_mini, or model.pool=mean")
