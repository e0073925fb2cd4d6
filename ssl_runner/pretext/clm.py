"""Improving Language Understanding by Generative Pre-Training (GPT); its language model.

Alec Radford, Karthik Narasimhan, Tim Salimans, Ilya Sutskever. OpenAI, 2018, section 3.1.

Differs: no token stands before the first word, which is not told. The output weights are the head's own.
"""

from collections.abc import Sequence

from torch import nn

from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.layers.ranges import Share
from ssl_runner.layers.word_encoder import require_words
from ssl_runner.loss.word_prediction import word_prediction


class CLM(Pretext):
    """Predicts each token of a text from those before it.

    noise: share of the words in whose place a random one is read; what is told stays the true one.
    Raises ValueError for an encoder that is not causal.
    """

    kinds = ("text",)

    def __init__(self, *, encoder: Encoder, samples: Samples, noise: Share = 0.0):
        super().__init__()
        require_words(encoder, causal=True)
        self.encoder, self.noise, self.vocabulary = encoder, noise, samples.vocabulary
        self.head = nn.Linear(encoder.dim, samples.vocabulary)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Ids as they are read, and as they are."""
        x, width = batch.x, width_of(batch.x)
        random = 1 + ctx.rng.randint(self.vocabulary - 1, *x.shape)
        changed = (ctx.rng.rand(*x.shape) < self.noise) & (x != 0)
        return random.where(changed, x)[:, :width], x[:, :width]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, words = views
        features = self.encoder.encode(self.encoder.embed(x), mask=self.encoder.real(x))
        target = words[:, 1:]
        value, metrics = word_prediction(self.head(features.tokens[:, :-1]), target, target != 0)  # equation 1
        return Loss(value, metrics, features.pooled)

    def suspects(self) -> Sequence[Suspect]:
        if self.noise > 0.3:
            return [Suspect(f"pretext.noise={self.noise:g} leaves little to tell words from", "pretext.noise=0", 0.4)]
        return []
