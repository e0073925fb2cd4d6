"""Decoupled Contrastive Learning (DCL and DCLW).

Chun-Hsiao Yeh, Cheng-Yao Hong, Yen-Chi Hsu, Tyng-Luh Liu, Yubei Chen, Yann LeCun. ECCV 2022, arXiv 2110.06848.

Differs: a hidden width of 512, for small images. Negatives are the other samples of the same micro-batch, on all ranks,
and not those of other micro-batches; nor is the mean of the weights.
"""

from collections.abc import Sequence

import torch

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.info_nce import decoupled, extreme_temperature


class DCL(Pretext):
    """Pulls the two views of a sample together and pushes all other samples away, each at a strength of its own.

    SimCLR's denominator holds the positive too, so that a pair which agrees already hardly pushes others away; here it
    does not, which helps with small batches. The loss may be negative, and has no lower bound.

    weighted: pull pairs that are far apart more strongly (DCLW). weight_temperature: how much, sigma in the paper.
    `hidden` and `out` are the widths of the projection head, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        temperature: Positive = 0.1,
        weighted: bool = False,
        weight_temperature: Positive = 0.5,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.temperature = encoder, augment, temperature
        self.weighted, self.weight_temperature = weighted, weight_temperature
        self.hidden, self.out = hidden, out
        self.projector = mlp((encoder.dim, hidden, out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no negatives; raise batch_size or lower accumulate")
        z = self.projector(self.encoder(torch.cat(views)).pooled)  # (2B, out)
        value, nearest = decoupled(z, self.temperature, self.weight_temperature if self.weighted else None)
        return Loss(value, {"accuracy": nearest.float().mean()}, z)

    def suspects(self) -> Sequence[Suspect]:
        return extreme_temperature(self.temperature, usual=0.1)
