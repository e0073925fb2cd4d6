"""ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators.

Kevin Clark, Minh-Thang Luong, Quoc V. Le, Christopher D. Manning. ICLR 2020, arXiv 2003.10555.

Differs: generator and discriminator share no embeddings. Of each row exactly a share of the tokens is hidden, all of
them behind a learnt vector; the authors' code shows the generator 15 % of them. The output weights of the generator are
its own.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.text.hiding import hidden_places, most_hidden
from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.layers.ranges import Count, NotNegative
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.layers.word_encoder import WordEncoder, WordHead, require_words
from ssl_runner.loss.word_prediction import mean_of_tokens, word_prediction

TINY = 1e-9


class ELECTRA(Pretext):
    """Predicts of each token of a text whether it is the original, or a replacement by a small masked language model.

    ratio: share of a row's tokens that the generator fills in. width, depth, heads: of the generator (section 3.2: a
        quarter to a half of the encoder's size). weight: of the discriminator's loss beside the generator's, λ.
    Raises ValueError for an encoder that cannot hide tokens or is causal.
    """

    kinds = ("text",)

    def __init__(
        self,
        *,
        encoder: Encoder,
        samples: Samples,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        width: Count = 32,
        depth: Count = 2,
        heads: Count = 2,
        weight: NotNegative = 50.0,
    ):
        super().__init__()
        require_words(encoder, causal=False)
        self.encoder, self.ratio, self.weight = encoder, ratio, weight
        self.width, self.depth, self.heads, self.vocabulary = width, depth, heads, samples.vocabulary
        self.generator = WordEncoder(samples.vocabulary, width, depth, heads, length=samples.shape[0])
        self.token = nn.Parameter(torch.randn(width))  # stands for hidden words
        self.head = WordHead(width, samples.vocabulary)
        self.original = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.Linear(encoder.dim, 1))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Ids (B, n), places of the hidden (B, k), which of them count, and noise of each word there (B, k, v)."""
        x, width = batch.x, width_of(batch.x)
        places, counts = hidden_places(x != 0, torch.ones_like(x, dtype=torch.bool), self.ratio, ctx.rng)
        uniform = ctx.rng.rand(*places.shape, self.vocabulary)
        noise = -(-(uniform + TINY).log() + TINY).log()  # Gumbel: the largest of logits and noise is a sample
        most = most_hidden(width, self.ratio)
        return x[:, :width], places[:, :most].clamp(max=width - 1), counts[:, :most], noise[:, :most]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, places, counts, noise = views
        real, words = self.encoder.real(x), x.gather(1, places)
        logits = self.generate(x, places, counts)
        made_up, metrics = word_prediction(logits, words, counts)  # the first sum of the paper's objective
        corrupt = self.corrupt(x, places, counts, logits, noise)
        features = self.encoder.encode(self.encoder.embed(corrupt), mask=real)
        scores = self.original(features.tokens)[..., 0].float()
        true = corrupt == x  # also if the generator has made the true word
        each = F.binary_cross_entropy_with_logits(scores, true.to(scores.dtype), reduction="none")
        told = mean_of_tokens(each, real)
        right = mean_of_tokens(((scores > 0) == true).float(), real).detach()
        metrics = {**metrics, "discriminator_loss": told.detach(), "discriminator_accuracy": right}
        metrics["replaced"] = mean_of_tokens((~true).float(), real).detach()
        return Loss(made_up + self.weight * told, metrics, features.pooled)

    def generate(
        self, x: Int[Tensor, "b n"], places: Int[Tensor, "b k"], counts: Bool[Tensor, "b k"]
    ) -> Float[Tensor, "b k v"]:
        hidden = torch.zeros_like(x, dtype=torch.bool).scatter(1, places, counts)
        z = self.generator.embed(x)
        z = torch.where(hidden[..., None], self.token.to(z.dtype), z)
        return self.head(take_tokens(self.generator.encode(z, mask=x != 0).tokens, places))

    def corrupt(
        self, x: Int[Tensor, "b n"], places: Int[Tensor, "b k"], counts: Bool[Tensor, "b k"],
        logits: Float[Tensor, "b k v"], noise: Float[Tensor, "b k v"],
    ) -> Int[Tensor, "b n"]:  # fmt: skip
        """The ids with words of the generator's at the hidden places; padding is none of its words."""
        made = (logits.detach().float() + noise)[..., 1:].argmax(2) + 1
        return x.scatter(1, places, torch.where(counts, made, x.gather(1, places)))

    def suspects(self) -> Sequence[Suspect]:
        if self.weight == 0:
            cause = "pretext.weight=0, the encoder learns nothing: its loss is not counted"
            return [Suspect(cause, "pretext.weight=50", 1.0)]
        if self.ratio > 0.6:
            return [Suspect(f"pretext.ratio={self.ratio:g} leaves little to tell words from", "pretext.ratio=0.2", 0.4)]
        return []
