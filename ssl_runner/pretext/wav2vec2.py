"""wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations.

Alexei Baevski, Henry Zhou, Abdelrahman Mohamed, Michael Auli. NeurIPS 2020, arXiv 2006.11477.

Differs: the defaults suit short words and small encoders (2 x 40 codes and not 2 x 320, 20 distractors and not 100,
spans of 5 frames that hide half and not of 10). The temperature of the codes falls over the run from first to last, and
not by 0.999995 a step. Each clip has the same weight. Local features have the gradient of the rest, not a tenth of it,
and no penalty on their size.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.audio.spans import hidden_spans, other_hidden
from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gumbel import GumbelQuantiser, diversity, ids_use, mean_use, perplexities
from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.loss.prediction import mean_of_clips


class Wav2Vec2(Pretext):
    """Identifies the quantised local features of a hidden frame among those of other hidden frames of the same clip.

    ratio, span: see `hidden_spans`. books, codes: codebooks of the quantiser, and codes of each; their temperature
    falls from `first_heat` to `last_heat`. distractors: of each hidden frame, K in the paper. temperature: of the
    similarities, kappa. diversity: weight of an even use of codes, alpha. out: width of what is compared.
    Raises ValueError for an encoder that cannot hide frames, and for books that do not divide `out`.
    """

    kinds = ("audio",)

    def __init__(
        self, *, encoder: Encoder, augment: Recipe, ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
        span: Count = 5, books: Count = 2, codes: Annotated[int, Ge(2)] = 40, first_heat: Positive = 2.0,
        last_heat: Positive = 0.5, distractors: Count = 20, temperature: Positive = 0.1, diversity: NotNegative = 0.1,
        out: Count = 64
    ):  # fmt: skip
        super().__init__()
        if not encoder.in_two_steps:
            raise ValueError(f"{type(encoder).__name__} cannot hide frames; type model=wav_transformer_tiny")
        if out % books:
            raise ValueError(f"pretext.out={out} is no multiple of pretext.books={books}")
        self.encoder, self.augment, self.ratio, self.span = encoder, augment, ratio, span
        self.books, self.codes, self.first_heat, self.last_heat = books, codes, first_heat, last_heat
        self.distractors, self.temperature, self.diversity, self.out = distractors, temperature, diversity, out
        self.token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.quantiser = GumbelQuantiser(encoder.dim, books, codes, out)
        self.predict = nn.Linear(encoder.dim, out)
        self.register_buffer("heat", torch.tensor(float(first_heat)))

    def before_step(self, ctx: Context) -> None:
        self.heat.fill_(self.first_heat * (self.last_heat / self.first_heat) ** ctx.progress)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Clips, which frames are hidden (B, n), distractors of each (B, n, K), noise of the codes (B, n, G, V)."""
        x = self.augment(batch.x, ctx.rng)
        hidden = hidden_spans(self.encoder.real(x), self.ratio, self.span, ctx.rng)
        others = other_hidden(hidden, self.distractors, ctx.rng)
        return x, hidden, others, ctx.rng.rand(len(x), hidden.shape[1], self.books, self.codes)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, hidden, others, u = views
        z = self.encoder.embed(x)
        masked = torch.where(hidden[..., None], self.token.to(z.dtype), z)
        features = self.encoder.encode(masked, mask=self.encoder.real(x))
        q, ids, probabilities = self.quantiser(z, u, self.heat)
        losses, hits, told = self.contrast(self.predict(features.tokens), q, ids, others)
        use = mean_use(probabilities, hidden)
        # L_m + alpha L_d, equation 2
        value = mean_of_clips(losses, hidden) + self.diversity * diversity(use)
        perplexity = perplexities(ids_use(ids, self.codes, hidden)).sum()  # in [G, G V]
        metrics = {
            "masked_accuracy": mean_of_clips(hits.to(losses.dtype), hidden & told),
            "code_perplexity": perplexity,
            "codes_in_use": perplexity / (self.books * self.codes),
        }
        return Loss(value, {name: each.detach() for name, each in metrics.items()}, features.pooled)

    def contrast(
        self, c: Float[Tensor, "b n d"], q: Float[Tensor, "b n d"], ids: Int[Tensor, "b n g"],
        others: Int[Tensor, "b n k"]
    ) -> tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:  # fmt: skip
        """Of each frame, equation 3; whether its own codes are nearest; and whether there was another to tell it from.

        A distractor of the very same codes is none.
        """
        with torch.autocast(c.device.type, enabled=False):
            c, q = F.normalize(c.float(), dim=2), F.normalize(q.float(), dim=2)
            similarity = c @ q.mT / self.temperature  # (B, n, n)
            same = (ids[:, :, None] == ids[:, None]).all(3)  # (B, n, n)
            negatives = similarity.masked_fill(same, -torch.inf).gather(2, others)  # (B, n, K)
            logits = torch.cat([similarity.diagonal(dim1=1, dim2=2)[..., None], negatives], dim=2)
            losses = logits.logsumexp(2) - logits[..., 0]
            return losses, logits.argmax(2) == 0, negatives.isfinite().any(2)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.diversity < 0.01:
            cause = f"pretext.diversity={self.diversity:g}, a few codes may take all frames"
            suspects.append(Suspect(cause, "pretext.diversity=0.1", 0.7))
        if self.last_heat < 0.1:
            cause = f"pretext.last_heat={self.last_heat:g}, codes stay as they fell early"
            suspects.append(Suspect(cause, "pretext.last_heat=0.5", 0.4))
        return suspects
