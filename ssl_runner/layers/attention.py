"""Token sequences in a transformer: attention masks, tokens kept by position, a mean that leaves padding out."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad


def take_tokens(tokens: Float[Tensor, "b n d"], positions: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens of each sample at its own positions, in [0, n), in this order.

    torch.take_along_dim does the same, and first looks at each index of each of the d numbers for a negative one.
    """
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[2]))


def masked_mean(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """The mean over real tokens, which are all without a mask; zero for a sample that has none."""
    if mask is None:
        return tokens.mean(1)
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


def attention_mask(
    mask: Bool[Tensor, "b k"] | None,
    visible: Bool[Tensor, "n n"] | None,
    keep: Int[Tensor, "b k"] | None,
    prefix: int,
) -> Bool[Tensor, "#b 1 #q t"] | None:
    """(query, key) pairs that attend, for scaled_dot_product_attention; None if all do. t = prefix + k.

    mask: which of the k tokens are real. visible: which of n keys each of n queries attends to, k of which are kept.
    prefix: class and register tokens before them. They attend to each other and to every real token; under `visible`
    no other token attends to them, since they would pass on what it must not see.

    The softmax over no key is not a number. So a query whose keys are all hidden attends to itself, and a sample that
    is all padding to all of it.
    """
    real = None if mask is None else pad(mask, (prefix, 0), value=True)  # (B, t)
    if visible is None:
        return None if real is None else (real | ~real.any(1, keepdim=True))[:, None, None]
    pairs = visible[None] if keep is None else visible[keep[:, :, None], keep[:, None, :]]  # (1 or B, k, k)
    pairs = pad(pairs, (prefix, 0, prefix, 0))  # (1 or B, t, t)
    pairs[:, :prefix] = True
    if real is not None:
        pairs = pairs & real[:, None]  # (B, t, t)
    itself = torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    return (pairs | (itself & ~pairs.any(2, keepdim=True)))[:, None]


def run_blocks(
    blocks: Iterable[nn.Module],
    tokens: Float[Tensor, "b t d"],
    attended: Bool[Tensor, "#b 1 #q t"] | None,
    layers: Sequence[int],
    prefix: int,
) -> tuple[Float[Tensor, "b t d"], tuple[Float[Tensor, "b k d"], ...]]:
    """The tokens after timm's blocks, and without the prefix after each block of `layers`, in the order of `layers`.

    Raises ValueError for a layer that does not exist.
    """
    blocks = list(blocks)
    depth = len(blocks)
    if not all(-depth <= layer < depth for layer in layers):
        raise ValueError(f"layers={list(layers)}: the encoder has {depth} blocks, 0 to {depth - 1}, or -{depth} to -1")
    outputs = {}
    for number, block in enumerate(blocks):
        tokens = block(tokens) if attended is None else block(tokens, attn_mask=attended)
        if number in layers or number - depth in layers:
            outputs[number] = tokens[:, prefix:]
    return tokens, tuple(outputs[layer % depth] for layer in layers)
