"""A Simple Framework for Contrastive Learning of Visual Representations.

Ting Chen, Simon Kornblith, Mohammad Norouzi, Geoffrey Hinton. ICML 2020, arXiv 2002.05709.

Differs: the defaults suit small images (temperature 0.5, the paper's best on CIFAR-10, appendix B.9; a hidden width of
512). The head ends in a linear layer, as in the paper; in the authors' code a batch norm comes behind it. Negatives are
the other samples of the same micro-batch, on all ranks, and not those of other micro-batches.
"""

from collections.abc import Sequence

import torch

from ssl_runner.augment.recipe import Recipe
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.info_nce import extreme_temperature, nt_xent


class SimCLR(Pretext):
    """Identifies the other view of a sample among the views of all other samples.

    `hidden` and `out` are the widths of the projection head g, which is thrown away (section 4.2).
    """

    kinds = ("image", "audio")

    def __init__(
        self, *, encoder: Encoder, augment: Recipe, temperature: Positive = 0.5, hidden: Count = 512, out: Count = 128
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.temperature, self.hidden, self.out = temperature, hidden, out
        self.projector = mlp((encoder.dim, hidden, out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no negatives; raise batch_size or lower accumulate")
        h = self.encoder(torch.cat(views)).pooled  # (2B, dim)
        z = self.projector(h)  # (2B, out)
        value, nearest = nt_xent(z, self.temperature)
        return Loss(value, {"accuracy": nearest.float().mean()}, z)

    def suspects(self) -> Sequence[Suspect]:
        return extreme_temperature(self.temperature, usual=0.5)
