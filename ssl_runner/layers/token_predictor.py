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
    """Asks for each place with one learnt token, at its position; it attends to the tokens given, and to nothing else.

    So no prediction depends on what else is asked. dim: of the tokens. grid: rows and columns. width, depth and heads:
    of the blocks; what comes out is `width` wide.
    Raises ValueError for a width that `heads` or 4 does not divide.
    """

    positions: Tensor

    def __init__(self, dim: int, grid: tuple[int, ...], *, width: int, depth: int, heads: int):
        super().__init__()
        check_width(width, heads)
        self.embed, self.seen = nn.Linear(dim, width), nn.LayerNorm(width)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sine_cosine(grid, width), persistent=False)
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "b k d"], places: Int[Tensor, "b k"], asked: Int[Tensor, "b m"]
    ) -> Float[Tensor, "b m w"]:
        """places: of the tokens. asked: places whose tokens are predicted, in this order."""
        seen = self.seen(self.embed(tokens) + self.positions[places])
        x = self.token + self.positions[asked]  # (B, m, width)
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x)


def check_width(width: int, heads: int) -> None:
    """Raises ValueError for a decoder's or predictor's width that `heads` or 4 does not divide."""
    if width % heads or width % 4:
        raise ValueError(f"pretext.width={width} must be a multiple of 4 and pretext.heads={heads}; 128 and 4 do")
