"""Transformers over sequences with padding, for text and for sound, in two steps: embed and encode.

Blocks with norms first as in On Layer Normalization in the Transformer Architecture, Xiong et al., ICML 2020,
arXiv:2002.04745; rotary positions of RoFormer, Su et al., Neurocomputing 2024, arXiv:2104.09864, equation 34.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder, Features
from ssl_runner.layers.causal import causal_pairs
from ssl_runner.layers.transformer import attention_mask, masked_mean, require_blocks, take_tokens

Positions = Literal["rotary", "learned"]
Pool = Literal["mean", "first", "last"]
Turn = tuple[Float[Tensor, "#b 1 #k pairs"], Float[Tensor, "#b 1 #k pairs"]]  # cosines, sines of pairs


class SequenceEncoder(Encoder):
    """A transformer over the tokens of samples of unequal length: word pieces (model/text_transformer.py), or frames of
    a waveform.

    A subclass defines `embed(x)` (B, n, width) and `real(x)` (B, n), which tokens are no padding; padding comes last.
    Tokens are the outputs after the last norm. A sample has the same features alone and padded in a batch.

    width: of a token, a multiple of twice the heads. dropout: of the sum of embedding and position, and of what each
        half of a block adds. length: the most tokens, for learned positions. causal: no token attends to a later one.
    pool: what `pooled` is of the real tokens: their mean, the first, or the last.
    Raises ValueError for a width that heads do not divide into pairs, and what sees itself alone and is pooled.
    """

    in_two_steps = True

    def __init__(
        self, width: int, depth: int, heads: int, *, length: int, positions: Positions = "rotary",
        dropout: float = 0.0, causal: bool = False, pool: Pool = "mean"
    ):  # fmt: skip
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"model.width={width} must be a multiple of {2 * heads}, twice model.heads={heads}")
        if causal and pool == "first":
            raise ValueError("model.pool=first of a causal model has seen one token; type model.pool=mean, or last")
        self.dim, self.causal, self.pool = width, causal, pool
        self.places = nn.Parameter(0.02 * torch.randn(length, width)) if positions == "learned" else None
        self.frequency = nn.Buffer(10_000.0 ** (-torch.arange(0, width // heads, 2) * heads / width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(SequenceBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Features:
        return self.encode(self.embed(x), keep=keep, mask=self.real(x))

    def encode(
        self, z: Float[Tensor, "b n d"], *, keep: Int[Tensor, "b k"] | None = None, layers: Sequence[int] = (),
        mask: Bool[Tensor, "b n"] | None = None, visible: Bool[Tensor, "*b n n"] | None = None
    ) -> Features:  # fmt: skip
        """Adds positions, drops tokens, and runs the blocks and the last norm; see the contract.

        Raises ValueError for a layer that does not exist, and for more tokens than there are learned positions.
        """
        depth, n = len(self.blocks), z.shape[1]
        require_blocks(layers, depth)
        if self.causal and visible is not None:
            visible = visible & causal_pairs(n).to(z.device)
        tokens, turn = self.add_positions(z, keep)
        if keep is not None:
            mask = None if mask is None else mask.gather(1, keep)
        causal = self.causal and visible is None
        if causal and keep is not None:
            visible, causal = causal_pairs(n).to(z.device), False
        # Padding comes last: no real token attends to it in a causal model.
        attended = None if causal else attention_mask(mask, visible, keep, 0)
        tokens, outputs = self.dropout(tokens), {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, turn, attended, causal)
            if number in layers or number - depth in layers:
                outputs[number] = tokens
        tokens = self.norm(tokens)
        chosen = tuple(outputs[layer % depth] for layer in layers)
        return Features(self.pool_tokens(tokens, mask), tokens, (n,), mask, chosen)

    def real(self, x: Tensor) -> Bool[Tensor, "b n"]:
        raise NotImplementedError(f"{type(self).__name__}.real")

    def add_positions(
        self, z: Float[Tensor, "b n d"], keep: Int[Tensor, "b k"] | None
    ) -> tuple[Float[Tensor, "b k d"], Turn | None]:
        """The tokens that are kept, with learned positions, or the angles by which rotary ones turn them."""
        n = z.shape[1]
        if self.places is not None:
            if n > len(self.places):
                raise ValueError(f"{n} tokens, and the model has positions for {len(self.places)}; use rotary ones")
            z = z + self.places[:n]
        tokens = z if keep is None else take_tokens(z, keep)
        if self.places is not None:
            return tokens, None
        place = torch.arange(n, device=z.device)[None] if keep is None else keep
        angle = place[:, None, :, None] * self.frequency  # (1 or B, 1, k, width / heads / 2)
        return tokens, (angle.cos(), angle.sin())

    def pool_tokens(self, tokens: Float[Tensor, "b k d"], mask: Bool[Tensor, "b k"] | None) -> Float[Tensor, "b d"]:
        if self.pool == "mean":
            return masked_mean(tokens, mask)
        if self.pool == "first":
            return tokens[:, 0]
        if mask is None:
            return tokens[:, -1]
        last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
        return take_tokens(tokens, last[:, None])[:, 0]


class SequenceBlock(nn.Module):
    """Attention and a hidden layer of four times the width, norms first, GELU, dropout of what each adds."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Float[Tensor, "b n d"], turn: Turn | None = None,
        attended: Bool[Tensor, "#b 1 #n n"] | None = None, causal: bool = False
    ) -> Float[Tensor, "b n d"]:  # fmt: skip
        """turn: of queries and keys. attended: (query, key) pairs. causal: pairs of each token and those before."""
        x = x + self.dropout(self.attend(self.norm1(x), turn, attended, causal))
        return x + self.dropout(self.hidden(self.norm2(x)))

    def attend(
        self, x: Float[Tensor, "b n d"], turn: Turn | None, attended: Bool[Tensor, "#b 1 #n n"] | None, causal: bool
    ) -> Float[Tensor, "b n d"]:
        projected = self.query_key_value(x).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, n, d / heads) each
        if turn is not None:
            query, key = rotate(query, turn), rotate(key, turn)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attended, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


def rotate(x: Float[Tensor, "b h n e"], turn: Turn) -> Float[Tensor, "b h n e"]:
    """Pairs (x_i, x_{i + e/2}) turned by an angle that grows with the token's place; equation 34."""
    cosine, sine = (each.to(x.dtype) for each in turn)
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=3)
