"""HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units.

Wei-Ning Hsu, Benjamin Bolte, Yao-Hung Hubert Tsai, Kushal Lakhotia, Ruslan Salakhutdinov, Abdelrahman Mohamed. IEEE/ACM
TASLP 29, 2021, arXiv 2106.07447.

Differs: units of the first round are clusters of log-mel bands and not of MFCC with their differences. The second round
goes on with the same network and does not begin anew. The defaults suit short words and short runs (64 units, spans of
5 frames that hide half). Each clip has the same weight. Local features have the gradient of the rest and no penalty on
their size; in the authors' code they have a tenth of it, and one.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.audio.spans import hidden_spans
from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Samples, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.gumbel import ids_use, perplexities
from ssl_runner.layers.heads import Prototypes
from ssl_runner.layers.k_means import k_means, nearest
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.layers.ranges import Share as Weight
from ssl_runner.layers.sound import LogMel
from ssl_runner.loss.prediction import mean_of_clips

HALF = Duration(50.0, "%")
FRAMES = 100_000  # that are clustered, at most
ITERATIONS = 20


class HuBERT(Pretext):
    """Predicts the unit of each hidden frame: its cluster, at first of the sound itself, then of its own features.

    Units are a function of a clip alone between two clusterings: the state is centroids and the encoder that they are
    of. ratio, span: see `hidden_spans`. units: clusters. second: when the second round begins; 100%: never. layer: the
    block whose outputs are clustered then. masked: weight of hidden frames, alpha in equation 2; the rest is that of
    frames that are heard. temperature: of the similarities, tau. mels: bands of the sound that is clustered.
    Raises ValueError for an encoder that cannot hide frames, whose tokens are no frames, or that lacks the block.
    """

    kinds = ("audio",)

    def __init__(
        self, *, encoder: Encoder, augment: Recipe, samples: Samples, rows: int,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.5, span: Count = 5, units: Annotated[int, Ge(2)] = 64,
        second: Duration = HALF, layer: int = -2, masked: Weight = 1.0, temperature: Positive = 0.1,
        out: Count = 64, mels: Count = 40
    ):  # fmt: skip
        super().__init__()
        hop = getattr(encoder, "hop", None)
        if not encoder.in_two_steps or hop is None:
            raise ValueError(f"{type(encoder).__name__} cannot hide frames; type model=ast_tiny")
        self.encoder, self.augment, self.ratio, self.span, self.units = encoder, augment, ratio, span, units
        self.second, self.layer, self.masked, self.temperature, self.out = second, layer, masked, temperature, out
        self.mels = mels
        step = hop / samples.rate  # s
        self.sound = LogMel(rate=samples.rate, mels=mels, window=max(0.032, step), hop=step)
        tokens = encoder.embed(torch.zeros(1, *samples.shape))
        encoder.encode(tokens, layers=(layer,))  # refused here if the block is absent
        self.stride = max(1, rows * tokens.shape[1] // FRAMES)
        self.token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.project = nn.Linear(encoder.dim, out)  # A in equation 3
        self.codes = Prototypes(out, units)  # e_c
        self.teacher_encoder = frozen_copy(encoder)
        self.register_buffer("sound_centroids", torch.randn(units, mels))
        self.register_buffer("centroids", torch.randn(units, encoder.dim))

    def own(self, ctx: Context) -> bool:
        """Whether units are of the encoder's own features."""
        return ctx.step >= self.begins(ctx)

    def begins(self, ctx: Context) -> int:
        return max(1, self.second.steps(ctx.length.steps_per_epoch, ctx.length.steps))

    def before_step(self, ctx: Context) -> None:
        """Clusters the frames of the training rows at the start of a round. Raises ValueError if all have one unit."""
        if ctx.step not in (0, self.begins(ctx)):
            return
        own = self.own(ctx)
        if own:
            follow(self.teacher_encoder, self.encoder, 0.0)
        frames = torch.cat(list(self.frames(ctx, own)))
        centroids, ids = k_means(frames, self.units, ITERATIONS, ctx.rng, spherical=False)
        if len(ids) and (ids == ids[0]).all():
            raise ValueError(
                f"all {len(ids)} frames fall into one unit, and nothing is left to predict; is it silence?"
            )
        (self.centroids if own else self.sound_centroids).copy_(centroids)

    def frames(self, ctx: Context, own: bool) -> Iterator[Float[Tensor, "k d"]]:
        """What is clustered: real frames, every so many if they are more than FRAMES."""
        place = 0
        for batch in ctx.sweep():
            frames = self.clustered(batch.x, own)[self.encoder.real(batch.x)]
            yield frames[-place % self.stride :: self.stride]
            place += len(frames)

    def clustered(self, x: Float[Tensor, "b 1 t"], own: bool) -> Float[Tensor, "b n d"]:
        if not own:
            return self.sound.bands(x.float())
        teacher = self.teacher_encoder
        training = teacher.training
        teacher.eval()  # units are the same whenever they are asked for: no dropout
        (tokens,) = teacher.encode(teacher.embed(x), mask=teacher.real(x), layers=(self.layer,)).layers
        teacher.train(training)
        return tokens.float()

    @torch.no_grad()
    def targets(self, x: Float[Tensor, "b 1 t"], own: bool) -> Int[Tensor, "b n"]:
        """The unit of each frame."""
        return nearest(self.clustered(x, own), self.centroids if own else self.sound_centroids, spherical=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Clips, which frames are hidden (B, n), and the unit of each frame (B, n).

        In the second round (B, 0): a frozen encoder tells the units, whose weights may lie on several devices until
        the forward pass.
        """
        x = self.augment(batch.x, ctx.rng)
        hidden = hidden_spans(self.encoder.real(x), self.ratio, self.span, ctx.rng)
        none = hidden.new_zeros(len(x), 0, dtype=torch.int64)
        return x, hidden, none if self.own(ctx) else self.targets(x, False)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, hidden, units = views
        units = units if units.shape[1] else self.targets(x, True)
        real, z = self.encoder.real(x), self.encoder.embed(x)
        features = self.encoder.encode(torch.where(hidden[..., None], self.token.to(z.dtype), z), mask=real)
        logits = self.codes(self.project(features.tokens).flatten(0, 1)) / self.temperature  # equation 3
        losses = F.cross_entropy(logits, units.flatten(), reduction="none").view_as(units)
        hits = (logits.argmax(1).view_as(units) == units).to(losses.dtype)
        shown = real & ~hidden
        # alpha L_m + (1 - alpha) L_u, equation 2
        value = self.masked * mean_of_clips(losses, hidden) + (1 - self.masked) * mean_of_clips(losses, shown)
        perplexity = perplexities(ids_use(units[..., None], self.units, real))[0]
        metrics = {
            "masked_accuracy": mean_of_clips(hits, hidden),
            "unmasked_accuracy": mean_of_clips(hits, shown),
            "code_perplexity": perplexity,
            "codes_in_use": perplexity / self.units,
        }
        return Loss(value, {name: each.detach() for name, each in metrics.items()}, features.pooled)

    def suspects(self) -> Sequence[Suspect]:
        if self.units < 8:
            cause = f"pretext.units={self.units}, so few clusters are told by loudness alone"
            return [Suspect(cause, "pretext.units=64", 0.5)]
        if self.ratio < 0.15:
            cause = f"pretext.ratio={self.ratio:g}, hidden frames can be copied from their neighbours"
            return [Suspect(cause, "pretext.ratio=0.5", 0.4)]
        return []
