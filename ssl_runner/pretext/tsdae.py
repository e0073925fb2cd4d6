"""TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding Learning.

Kexin Wang, Nils Reimers, Iryna Gurevych. Findings of EMNLP 2021, arXiv 2104.06979.

Differs: the decoder has embeddings and weights of its own, and fewer blocks. Its attention to the one vector of the
sentence, whose softmax is 1, is a linear map of that vector, added in each block. The first word is told of the vector
alone, and no token stands before it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.recipe import Recipe
from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.layers.ranges import Count
from ssl_runner.layers.word_encoder import WordEncoder
from ssl_runner.loss.word_prediction import word_prediction


class TSDAE(Pretext):
    """Reconstructs a text, word by word, from one vector of a copy of it from which most words are deleted.

    depth, heads: of the decoder, as wide as the encoder.
    """

    kinds = ("text",)

    def __init__(self, *, encoder: Encoder, samples: Samples, augment: Recipe, depth: Count = 1, heads: Count = 4):
        super().__init__()
        self.encoder, self.augment, self.depth, self.heads = encoder, augment, depth, heads
        given = {"length": samples.shape[0], "causal": True}
        self.decoder = WordEncoder(samples.vocabulary, encoder.dim, depth, heads, **given)
        self.read = nn.ModuleList(nn.Linear(encoder.dim, encoder.dim) for _ in range(depth))
        self.head = nn.Linear(encoder.dim, samples.vocabulary)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """What is left of the ids, and all of them."""
        left = self.augment(batch.x, ctx.rng)
        return left[:, : width_of(left)], batch.x[:, : width_of(batch.x)]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        left, words = views
        features = self.encoder(left)
        logits = self.head(self.decode(features.pooled, words))  # (B, n, v)
        value, metrics = word_prediction(logits, words, words != 0)  # the objective of section 3
        return Loss(value, metrics, features.pooled)

    def decode(self, sentence: Float[Tensor, "b d"], words: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Of each place what the words before it, and the sentence's vector, say of the one that is there."""
        decoder = self.decoder
        z = torch.cat([sentence[:, None], decoder.embed(words[:, :-1])], dim=1)
        tokens, turn = decoder.add_positions(z, None)
        for block, read in zip(decoder.blocks, self.read, strict=True):
            tokens = block(tokens + read(sentence)[:, None], turn, None, True)
        return decoder.norm(tokens)

    def suspects(self) -> Sequence[Suspect]:
        if not any(getattr(self.augment, each, 1) for each in ("deletion", "span_deletion", "shuffle", "word_dropout")):
            cause = "pretext.augment.deletion=0, and nothing else is done to the text that is made again"
            return [Suspect(cause, "pretext.augment.deletion=0.6", 0.4)]
        return []
