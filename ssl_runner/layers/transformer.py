"""Transformers on token sequences: fixed positions, tokens kept or hidden by place, attention masks, means, blocks.

Positions: Attention Is All You Need, Vaswani et al., NeurIPS 2017, arXiv:1706.03762, section 3.5; in two dimensions as
in Masked Autoencoders Are Scalable Vision Learners, He et al., CVPR 2022, arXiv:2111.06377, appendix A.1.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def sine_cosine(grid: tuple[int, ...], dim: int) -> Float[Tensor, "n {dim}"]:
    """The position of each token of a grid, in raster order, on the CPU.

    Each axis has an equal share of `dim`: its sines at wavelengths from 2π to 10000 · 2π tokens, then its cosines.

    grid: tokens an axis, (h, w) or (t,); n is their product.
    Raises ValueError if `dim` cannot be shared evenly among sine and cosine of each axis.
    """
    share = 2 * len(grid)
    if dim % share:
        raise ValueError(
            f"a width of {dim} has no sine-cosine positions of {len(grid)} axes; use a multiple of {share}"
        )
    frequency = 10_000.0 ** -(torch.arange(dim // share, dtype=torch.float64) * share / dim)
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid)).view(-1, len(grid), 1)
    angle = places * frequency  # (n, axes, dim / share)
    return torch.cat([angle.sin(), angle.cos()], dim=2).flatten(1).float()  # (n, dim)


def grid_of(tokens: int, aspect: float) -> tuple[int, ...]:
    """(rows, columns) of a sequence of tokens in raster order; `aspect`: the image's height over its width.

    (tokens,) if they do not fill a rectangle of about this aspect.
    """
    rows = max(1, round((tokens * aspect) ** 0.5))
    return (rows, tokens // rows) if tokens % rows == 0 else (tokens,)


def take_tokens(tokens: Float[Tensor, "b n d"], positions: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens of each sample at its own positions, in [0, n), in this order.

    torch.take_along_dim does the same, and first looks at each index of each of the d numbers for a negative one.
    """
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[2]))


def hide_tokens(
    tokens: Float[Tensor, "b n d"], positions: Int[Tensor, "b m"], token: Float[Tensor, " d"]
) -> Float[Tensor, "b n d"]:
    """The tokens with a method's own `token` in the place of those at each sample's positions."""
    place = positions[..., None].expand(-1, -1, tokens.shape[2])
    return tokens.scatter(1, place, token.to(tokens.dtype).expand_as(place))


def normalise_tokens(
    tokens: Float[Tensor, "b n d"], over: Literal["layer", "instance"], real: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b n d"]:
    """Zero mean and unit variance of the numbers of a token (layer), or of each number over tokens (instance).

    The latter takes from each token what all tokens of its sample have in common, those that are `real` if it is said
    which are. In float32, without scale and shift.
    """
    tokens = tokens.float()
    if over == "layer":
        return F.layer_norm(tokens, tokens.shape[-1:])
    if real is not None:
        weight = real[..., None] / real.sum(1)[:, None, None].clamp(min=1)
        tokens = tokens - (tokens * weight).sum(1, keepdim=True)
        return tokens * ((tokens.square() * weight).sum(1, keepdim=True) + 1e-5).rsqrt()
    return F.layer_norm(tokens.transpose(1, 2), tokens.shape[1:2]).transpose(1, 2)


def require_blocks(layers: Iterable[int], depth: int) -> None:
    """Raises ValueError if an encoder of that many blocks lacks one of those whose outputs are wanted."""
    layers = list(layers)
    if not all(-depth <= layer < depth for layer in layers):
        possible = f"the encoder has {depth} blocks, 0 to {depth - 1}, or -{depth} to -1"
        raise ValueError(f"layers={layers}: {possible}")


def masked_mean(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """The mean over real tokens, which are all without a mask; zero for a sample that has none."""
    if mask is None:
        return tokens.mean(1)
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


def attention_mask(
    mask: Bool[Tensor, "b k"] | None,
    visible: Bool[Tensor, "*b n n"] | None,
    keep: Int[Tensor, "b k"] | None,
    prefix: int,
) -> Bool[Tensor, "#b 1 #q t"] | None:
    """(query, key) pairs that attend, for scaled_dot_product_attention; None if all do. t = prefix + k.

    mask: which of the k tokens are real. visible: which of n keys each of n queries attends to, k of which are kept;
    of all samples or of each.
    prefix: class and register tokens before them. They attend to each other and to every real token; under `visible`
    no other token attends to them, since they would pass on what it must not see.

    The softmax over no key is not a number. So a query whose keys are all hidden attends to itself, and a sample that
    is all padding to all of it.
    """
    real = None if mask is None else F.pad(mask, (prefix, 0), value=True)  # (B, t)
    if visible is None:
        return None if real is None else (real | ~real.any(1, keepdim=True))[:, None, None]
    pairs = visible if visible.ndim == 3 else visible[None]  # (1 or B, n, n)
    if keep is not None:
        pairs = pairs.expand(len(keep), -1, -1).gather(1, keep[:, :, None].expand(-1, -1, pairs.shape[2]))
        pairs = pairs.gather(2, keep[:, None].expand(-1, keep.shape[1], -1))  # (B, k, k)
    pairs = F.pad(pairs, (prefix, 0, prefix, 0))  # (1 or B, t, t)
    pairs[:, :prefix] = True
    if real is not None:
        pairs = pairs & real[:, None]  # (B, t, t)
    itself = torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    return (pairs | (itself & ~pairs.any(2, keepdim=True)))[:, None]


class Block(nn.TransformerEncoderLayer):
    """torch's encoder layer with norms first, GELU, no dropout, and a hidden layer of four times the width.

    Its parameters, their names and their first values are torch's. It differs in how attention is computed: queries,
    keys and values are read from what the projection wrote; torch's own layer copies each of them twice.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)

    def forward(
        self, x: Float[Tensor, "b n d"], attended: Bool[Tensor, "#b 1 #n n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """attended: (query, key) pairs; None: all."""
        x = x + self.attend(self.norm1(x), attended)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))

    def attend(
        self, x: Float[Tensor, "b n d"], attended: Bool[Tensor, "#b 1 #n n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        layer = self.self_attn
        projected = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).unflatten(2, (3, layer.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, n, d / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return layer.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, n, d)


class CrossBlock(nn.Module):
    """A block whose tokens attend to others alone, and never to each other: norms first, GELU, no dropout."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b q d"], seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b q d"]:
        """`seen`: what is attended to, normalised already."""
        x = x + self.attend(self.norm1(x), seen)
        return x + self.hidden(self.norm2(x))

    def attend(self, x: Float[Tensor, "b q d"], seen: Float[Tensor, "b n d"]) -> Float[Tensor, "b q d"]:
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, q, d / heads)
        key, value = self.key_value(seen).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
