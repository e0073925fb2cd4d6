"""Attention masks of padded, dropped and causally ordered tokens, and means over the real ones."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def attention_mask(
    mask: Bool[Tensor, "b n"] | None,
    visible: Bool[Tensor, "n n"] | None,
    keep: Int[Tensor, "b k"] | None,
    first: int,
) -> Bool[Tensor, "b 1 q t"] | None:
    """(query, key) pairs that attend, as scaled_dot_product_attention takes them; None if all do.

    mask: which of n tokens are real. visible: which of n keys each of n queries sees. keep: the tokens that are left,
    in this order. first: class tokens before them, which see every real token and are seen by none but themselves
    under `visible`, else by all.
    """
    if mask is None and visible is None:
        return None
    some = mask if mask is not None else visible
    assert some is not None
    pairs = some.new_ones(1, some.shape[1], some.shape[1]) if visible is None else visible[None]  # (1, n, n)
    if mask is not None:
        pairs = pairs & mask[:, None, :]  # (B, n, n)
    if keep is not None:
        pairs = pairs.expand(len(keep), -1, -1)
        pairs = pairs.take_along_dim(keep[:, :, None], dim=1).take_along_dim(keep[:, None, :], dim=2)  # (B, k, k)
    if first:
        real = pairs.new_ones(len(pairs), pairs.shape[1]) if mask is None else mask
        if mask is not None and keep is not None:
            real = mask.take_along_dim(keep, dim=1)
        row = torch.cat([pairs.new_ones(len(pairs), first), real.expand(len(pairs), -1)], dim=1)  # (B, first + k)
        column = pairs.new_full((len(pairs), pairs.shape[1], first), visible is None)
        pairs = torch.cat([row[:, None].expand(-1, first, -1), torch.cat([column, pairs], dim=2)], dim=1)
    # a query that sees nothing would be not a number: padding sees itself
    itself = torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    return (pairs | itself)[:, None]


def mean_of(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """The mean over real tokens; all are, without a mask."""
    if mask is None:
        return tokens.mean(1)
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
