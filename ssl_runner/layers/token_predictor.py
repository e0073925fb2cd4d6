"""Narrow transformers that predict tokens at places of a grid from tokens at other places, as in I-JEPA and CAPI."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.layers.transformer import Block, CrossBlock, sine_cosine


class TokenPredictor(nn.Module):
    """Asks for each place with one learnt token, at its position; it attends to all tokens and to what else is asked.

    dim: of the tokens that come and go. grid: rows and columns. width, depth and heads: of the blocks.
    Raises ValueError for a width that `heads` or 4 does not divide.
    """

    positions: Tensor

    def __init__(self, dim: int, grid: tuple[int, ...], *, width: int, depth: int, heads: int):
        super().__init__()
        check_width(width, heads)
        self.embed, self.predict = nn.Linear(dim, width), nn.Linear(width, dim)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "b k d"], places: Int[Tensor, "b k"], asked: Int[Tensor, "b m"]
    ) -> Float[Tensor, "b m d"]:
        """places: of the tokens. asked: places whose tokens are predicted, in this order."""
        queries = self.token + self.positions[asked]  # (B, m, width)
        x = torch.cat([self.embed(tokens) + self.positions[places], queries], dim=1)
        return self.predict(self.norm(self.blocks(x)[:, tokens.shape[1] :]))


class CrossPredictor(nn.Module):
    """Asks for each place with one learnt token, at its position; it attends to what is given, and to nothing else.

    So no prediction depends on what else is asked. Given are tokens, and pooled features, which are at no place: since
    evaluators read these, they are asked for what they can tell of the places.
    dim: of tokens and pooled features. grid: rows and columns. width, depth and heads: of the blocks; what comes out is
    `width` wide.
    Raises ValueError for a width that `heads` or 4 does not divide.
    """

    positions: Tensor

    def __init__(self, dim: int, grid: tuple[int, ...], *, width: int, depth: int, heads: int):
        super().__init__()
        check_width(width, heads)
        self.embed, self.embed_pooled, self.seen = nn.Linear(dim, width), nn.Linear(dim, width), nn.LayerNorm(width)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(grid, width), persistent=False)
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "b k d"], pooled: Float[Tensor, "b d"], places: Int[Tensor, "b k"],
        asked: Int[Tensor, "b m"]
    ) -> Float[Tensor, "b m w"]:  # fmt: skip
        """places: of the tokens. asked: places whose tokens are predicted, in this order."""
        whole = self.embed_pooled(pooled)[:, None]  # (B, 1, width)
        seen = self.seen(torch.cat([whole, self.embed(tokens) + self.positions[places]], dim=1))
        x = self.token + self.positions[asked]  # (B, m, width)
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x)


class TokenDecoder(nn.Module):
    """Outputs of all places of a grid from the tokens there, and from pooled features, which are at no place.

    Since evaluators read pooled features, they are asked here for what they can tell of the places.
    dim: of tokens and pooled features. grid: rows and columns. out: numbers of an output. width, depth and heads: of
    the blocks.
    Raises ValueError for a width that `heads` or 4 does not divide.
    """

    positions: Tensor

    def __init__(self, dim: int, grid: tuple[int, ...], out: int, *, width: int, depth: int, heads: int):
        super().__init__()
        check_width(width, heads)
        self.embed, self.embed_pooled = nn.Linear(dim, width), nn.Linear(dim, width)
        self.register_buffer("positions", sine_cosine(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(
        self, tokens: Float[Tensor, "b n d"], pooled: Float[Tensor, "b d"], told: Float[Tensor, "b 1 w"] | None = None
    ) -> Float[Tensor, "b n out"]:
        """told: what is added to each of the tokens."""
        x = self.embed(tokens) + self.positions
        x = x if told is None else x + told
        whole = self.embed_pooled(pooled)[:, None]  # (B, 1, width)
        return self.predict(self.blocks(torch.cat([whole, x], dim=1))[:, 1:])


def check_width(width: int, heads: int) -> None:
    """Raises ValueError for a decoder's or predictor's width that `heads` or 4 does not divide."""
    if width % heads or width % 4:
        raise ValueError(f"pretext.width={width} must be a multiple of 4 and pretext.heads={heads}; 128 and 4 do")
