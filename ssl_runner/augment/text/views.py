"""Random views of a batch of ids: tokens deleted, in spans, shuffled within a window, unknown; padding stays behind.

What is done to a sample depends on its own row of the draw, and on no other sample of the batch.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from jaxtyping import Bool, Int
from torch import Tensor

from ssl_runner.augment.text.hiding import random_starts
from ssl_runner.contract import Kind, Rng

Probability = Annotated[float, Interval(ge=0, lt=1)]
UNKNOWN = 1  # the id of the unknown word if the tokenizer is `words`


@dataclass(frozen=True, kw_only=True)
class TextViews:
    """Makes one view of each row of ids, every row by its own draw. With everything off the rows come back as they are.

    deletion: probability of each token to be left out, and the ones behind it move up; one at least stays.
    span_deletion: the same of spans of `span` tokens in the mean. shuffle: places that a token may be moved by.
    word_dropout: probability of each token to be read as the unknown word, Bowman et al., CoNLL 2016, arXiv 1511.06349.
    That is id 1 of the tokenizer `words`, and of `bytes` one that no text has; a job of another is refused.
    The order of what is done is: words unknown, spans and tokens deleted, the rest shuffled.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    deletion: Probability = 0.1
    span_deletion: Probability = 0.0
    span: Annotated[float, Ge(1)] = 3.0
    shuffle: Annotated[int, Ge(0)] = 0
    word_dropout: Probability = 0.0

    def __call__(self, x: Int[Tensor, "b n"], rng: Rng) -> Int[Tensor, "b n"]:
        """As wide as the rows that are given; 0 is padding, in both."""
        shape, real = x.shape, x != 0
        if self.word_dropout:
            x = torch.where(real & (rng.rand(*shape) < self.word_dropout), UNKNOWN, x)
        kept = real
        if self.span_deletion:
            number = random_starts(*shape, self.span, rng).long().cumsum(1)
            kept = kept & (rng.rand(shape[0], shape[1] + 1).gather(1, number) >= self.span_deletion)
        if self.deletion:
            kept = kept & (rng.rand(*shape) >= self.deletion)
        if self.deletion or self.span_deletion:
            x = keep_tokens(x, one_kept(kept, real, rng))
        if self.shuffle:
            place = torch.arange(shape[1], device=x.device) + (self.shuffle + 1) * rng.rand(*shape)
            x = x.gather(1, place.masked_fill(x == 0, torch.inf).sort(dim=1, stable=True).indices)
        return x


def one_kept(kept: Bool[Tensor, "b n"], real: Bool[Tensor, "b n"], rng: Rng) -> Bool[Tensor, "b n"]:
    """The same, with a token drawn at random for a row that would have none left."""
    drawn = rng.rand(*kept.shape).masked_fill(~real, -1).argmax(1, keepdim=True)
    one = torch.zeros_like(kept).scatter(1, drawn, True) & real
    return torch.where(kept.any(1, keepdim=True), kept, one)


def keep_tokens(x: Int[Tensor, "b n"], kept: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """The tokens that are kept, moved up in their order, and padding behind them."""
    order = (~kept).byte().sort(dim=1, stable=True).indices
    return x.gather(1, order) * (torch.arange(x.shape[1], device=x.device) < kept.sum(1, keepdim=True))
