"""Embedding of ids and a transformer over them, and heads that tell which word a token is."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder
from ssl_runner.layers.sequence import Pool, Positions, SequenceEncoder


class WordEncoder(SequenceEncoder):
    """A transformer over ids, of which 0 is padding. See SequenceEncoder.

    embedding: standard deviation of an embedding's numbers at the start, 0.02 as in BERT; what blocks add then drowns
        which word a token is, and features tell how a sentence is built. None: 1, by weights of less that are
        multiplied by the root of the width, as in section 3.4 of Attention Is All You Need (arXiv:1706.03762).
    """

    kinds = ("text",)

    def __init__(
        self, vocabulary: int, width: int, depth: int, heads: int, *, length: int, positions: Positions = "rotary",
        dropout: float = 0.0, causal: bool = False, pool: Pool = "mean", embedding: float | None = None
    ):  # fmt: skip
        super().__init__(
            width, depth, heads, length=length, positions=positions, dropout=dropout, causal=causal, pool=pool
        )
        self.scale, deviation = (width**0.5, width**-0.5) if embedding is None else (1.0, embedding)
        self.words = nn.Embedding(vocabulary, width, _weight=torch.randn(vocabulary, width) * deviation)

    def embed(self, x: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return self.words(x) * self.scale

    def real(self, x: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        return x != 0


class WordHead(nn.Module):
    """BERT's head: a hidden layer, GELU, a norm, and a logit of each word. Its output weights are its own."""

    def __init__(self, dim: int, vocabulary: int):
        super().__init__()
        self.hidden, self.norm, self.words = nn.Linear(dim, dim), nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, tokens: Float[Tensor, "b m d"]) -> Float[Tensor, "b m v"]:
        return self.words(self.norm(F.gelu(self.hidden(tokens))))


def require_words(encoder: Encoder, causal: bool | None = None) -> None:
    """Raises ValueError for an encoder that does not embed and encode, or that is (not) causal and must (not) be."""
    if not encoder.in_two_steps:
        raise ValueError(f"{type(encoder).__name__} cannot hide tokens; type model=text_transformer_tiny")
    if causal is not None and getattr(encoder, "causal", causal) != causal:
        if causal:
            given = "model.causal=false: a token would see the one that it must tell"
            raise ValueError(f"{given}; type model=text_transformer_causal, or model.causal=true")
        raise ValueError("model.causal=true: a token sees none after it; type model.causal=false")
