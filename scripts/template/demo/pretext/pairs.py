"""Pairs: a contrastive pretext task to begin a method of your own from, after SimCLR (arXiv 2002.05709)."""

import torch
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.info_nce import nt_xent


class Pairs(Pretext):
    """Identifies the other view of a sample among the views of all other samples.

    temperature: what similarities are divided by. width: of the projection head, which is thrown away.
    """

    def __init__(self, *, encoder: Encoder, augment: Views, temperature: Positive = 0.1, width: Count = 128):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.temperature, self.width = temperature, width
        self.projector = mlp((encoder.dim, width, width))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """All randomness is here, drawn from ctx.rng: the runner can then resume, and use many processes."""
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        """A pure function of views and weights."""
        z = self.projector(self.encoder(torch.cat(views)).pooled)  # (2B, width)
        value, nearest = nt_xent(z, self.temperature)
        return Loss(value, {"accuracy": nearest.float().mean()}, z)
