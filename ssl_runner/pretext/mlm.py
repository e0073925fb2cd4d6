"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding; its masked language model.

Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova. NAACL 2019, arXiv 1810.04805, section 3.1. Whole words as
in the authors' later models; spans as in SpanBERT, Joshi et al., TACL 2020, arXiv 1907.10529, section 3.1.

Differs: there is no next sentence to tell. A learnt vector stands for hidden tokens, and no word of the vocabulary. Of
each row exactly a share is hidden, and of the last word or span that is drawn the first tokens if all were too many.
Spans are geometric without a limit. The output weights are the head's own, and not the embedding's.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.text.hiding import hidden_places, most_hidden, random_starts
from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.data.text_files.tokenizer import word_starts
from ssl_runner.layers.ranges import Share
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.layers.word_encoder import WordHead, require_words
from ssl_runner.loss.word_prediction import word_prediction


class MLM(Pretext):
    """Predicts hidden tokens of a text from those around them.

    ratio: share of a row's tokens that is to be told. unit: what is hidden as one: a token, a whole word of several, or
        a span of `span` tokens in the mean. replaced, kept: shares of the hidden tokens in whose place a random word
        stands, or the word itself; in the others' a learnt vector.
    Raises ValueError for an encoder that cannot hide tokens or is causal.
    """

    kinds = ("text",)
    starts: Tensor

    def __init__(
        self,
        *,
        encoder: Encoder,
        samples: Samples,
        assets: Mapping[str, bytes],
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        unit: Literal["token", "word", "span"] = "token",
        span: Annotated[float, Ge(1)] = 3.0,
        replaced: Share = 0.1,
        kept: Share = 0.1,
    ):
        super().__init__()
        require_words(encoder, causal=False)
        if replaced + kept > 1:
            raise ValueError(f"pretext.replaced={replaced:g} and pretext.kept={kept:g} are more than 1 together")
        self.encoder, self.ratio, self.unit, self.span = encoder, ratio, unit, span
        self.replaced, self.kept, self.vocabulary = replaced, kept, samples.vocabulary
        self.register_buffer("starts", word_starts(assets, samples.vocabulary), persistent=False)
        self.token = nn.Parameter(torch.randn(encoder.dim))
        self.head = WordHead(encoder.dim, samples.vocabulary)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Ids with random ones among them, where the vector stands (B, n), places (B, k), words there, which count."""
        x, rng = batch.x, ctx.rng
        n = x.shape[1]
        starts = random_starts(len(x), n, self.span, rng) if self.unit == "span" else self.starts[x]
        starts = torch.ones_like(starts) if self.unit == "token" else starts
        places, counts = hidden_places(x != 0, starts, self.ratio, rng)
        fate = rng.rand(len(x), places.shape[1])
        random = 1 + rng.randint(self.vocabulary - 1, len(x), places.shape[1])
        words = x.gather(1, places)
        shown = torch.where(counts & (fate < self.replaced), random, words)
        masked = counts & (fate >= self.replaced + self.kept)
        width, hidden = width_of(x), torch.zeros_like(x, dtype=torch.bool).scatter(1, places, masked)
        most = most_hidden(width, self.ratio)
        cut = (each[:, :most] for each in (places.clamp(max=width - 1), words, counts))
        return x.scatter(1, places, shown)[:, :width], hidden[:, :width], *cut

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, hidden, places, words, counts = views
        logits, pooled = self.predicted(x, hidden, places)
        value, metrics = word_prediction(logits, words, counts)
        return Loss(value, metrics, pooled)

    def predicted(
        self, x: Int[Tensor, "b n"], hidden: Bool[Tensor, "b n"], places: Int[Tensor, "b k"]
    ) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b d"]]:
        """What stands at the places, as logits of words, and the texts' features."""
        features = self.encoder.encode(self.embed(x, hidden), mask=self.encoder.real(x))
        return self.head(take_tokens(features.tokens, places)), features.pooled

    def embed(self, x: Int[Tensor, "b n"], hidden: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        z = self.encoder.embed(x)
        return torch.where(hidden[..., None], self.token.to(z.dtype), z)

    def pictures(self, views: tuple) -> Mapping[str, Int[Tensor, "b n"]]:
        """The texts with the likeliest word at each place that is to be told."""
        x, hidden, places, _, counts = views
        logits, _ = self.predicted(x, hidden, places)
        beside = places.where(counts, x.shape[1])  # a column for what does not count, which is left out
        filled = torch.nn.functional.pad(x, (0, 1)).scatter(1, beside, logits.argmax(2))
        return {"filled in": filled[:, :-1]}

    def suspects(self) -> Sequence[Suspect]:
        if self.ratio > 0.6:
            return [Suspect(f"pretext.ratio={self.ratio:g} leaves little to tell words from", "pretext.ratio=0.2", 0.4)]
        if self.replaced + self.kept > 0.5:
            given = f"pretext.replaced={self.replaced:g} and pretext.kept={self.kept:g}, few words are hidden"
            return [Suspect(given, "pretext.replaced=0.1 pretext.kept=0.1", 0.4)]
        return []
