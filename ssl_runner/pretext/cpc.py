"""Representation Learning with Contrastive Predictive Coding.

Aaron van den Oord, Yazhe Li, Oriol Vinyals. arXiv 1807.03748, 2018.

Differs: negatives are the frames of the other clips at the time that is predicted, and all other frames of the clip
itself, where the paper draws some of either. Each clip has the same weight, however long it is. The defaults suit short
words (6 steps of 30 ms and not 12 of 10 ms). The encoder is that of model/mel_gru.py.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ranges import Count
from ssl_runner.loss.prediction import mean_of_clips, step_ahead


class CPC(Pretext):
    """Identifies, from the frames so far, the next ones among others.

    steps: how many of the next frames are predicted, each by a linear map W_k of its own (equation 3).
    others, same: whether negatives are of other clips, and of the same one.
    Raises ValueError for an encoder that has no local features, and without negatives.
    """

    kinds = ("audio",)

    def __init__(self, *, encoder: Encoder, augment: Recipe, steps: Count = 6, others: bool = True, same: bool = True):
        super().__init__()
        if not encoder.in_two_steps:
            raise ValueError(f"{type(encoder).__name__} has no local features to predict; type model=mel_gru")
        if not (others or same):
            raise ValueError("pretext.others=false and pretext.same=false leave no negatives; type pretext.same=true")
        if not getattr(encoder, "causal", False):
            raise ValueError(f"{type(encoder).__name__} hears what it is to predict; type model=mel_gru")
        self.encoder, self.augment, self.steps, self.others, self.same = encoder, augment, steps, others, same
        self.predict = nn.ModuleList(nn.Linear(encoder.dim, encoder.dim, bias=False) for _ in range(steps))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return (self.augment(batch.x, ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        (x,) = views
        z, real = self.encoder.embed(x), self.encoder.real(x)
        features = self.encoder.encode(z, mask=real)
        c = features.tokens  # what was heard up to each frame
        if z.shape[1] <= self.steps:
            given = f"clips of {z.shape[1]} frames have none that is {self.steps} ahead"
            raise ValueError(f"{given}; type pretext.steps={max(1, z.shape[1] - 1)}, or a larger dataset.seconds")
        parts = [self.ahead(c, z, real, step) for step in range(1, self.steps + 1)]
        counted = torch.cat([each for *_, each in parts], dim=1)  # (B, frames of all steps)
        losses, hits = (torch.cat([part[number] for part in parts], dim=1) for number in (0, 1))
        value = mean_of_clips(losses, counted)
        metrics = {"accuracy": mean_of_clips(hits.to(losses.dtype), counted)}
        return Loss(value, metrics, features.pooled)

    def ahead(
        self, c: Float[Tensor, "b n d"], z: Float[Tensor, "b n d"], real: Tensor, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each frame `step` ahead, (B, n - step): its loss, whether it was told, and whether it is real."""
        later, known = z[:, step:], real[:, step:]
        prediction = self.predict[step - 1](c[:, :-step])  # W_k c_t
        return *step_ahead(prediction, later, known, others=self.others, same=self.same), known

    def suspects(self) -> Sequence[Suspect]:
        if not self.same:
            cause = "pretext.same=false, telling one clip from another is enough, and nothing changes over time"
            return [Suspect(cause, "pretext.same=true", 0.5)]
        return []
