"""Places to hide in rows of ids: exactly as many of each row as a share of its tokens, single, by words or in spans."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ssl_runner.contract import Rng


def hidden_count(tokens: Int[Tensor, "*b"], share: float) -> Int[Tensor, "*b"]:
    """The share of so many tokens, rounded, at least one."""
    return (tokens * share).round().long().clamp(min=1)


def most_hidden(length: int, share: float) -> int:
    """Of rows of this length."""
    return max(1, round(length * share))


def hidden_places(
    real: Bool[Tensor, "b n"], starts: Bool[Tensor, "b n"], share: float, rng: Rng
) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]:
    """Places of the tokens to hide, and which of them count: a short row has fewer than the longest.

    starts: tokens that begin a word or span. Words are drawn, each as likely as another, until they have enough tokens;
    of the last one the first tokens are taken. A row of padding alone has none.
    """
    n = real.shape[1]
    word = starts.long().cumsum(1)  # (B, n) number of the word that each token is of; one before the first start
    scores = rng.rand(len(real), n + 1).gather(1, word)  # equal within a word
    order = scores.masked_fill(~real, 2.0).sort(dim=1, stable=True).indices  # padding last
    places = order[:, : most_hidden(n, share)]
    tokens = real.sum(1)
    wanted = hidden_count(tokens, share).minimum(tokens)  # (B,)
    return places, torch.arange(places.shape[1], device=real.device) < wanted[:, None]


def random_starts(rows: int, length: int, span: float, rng: Rng) -> Bool[Tensor, "b n"]:
    """Where spans begin whose lengths are geometric of this mean, as if each token ended one with the same chance."""
    return rng.rand(rows, length) < 1 / span
