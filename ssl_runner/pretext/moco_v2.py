"""Improved Baselines with Momentum Contrastive Learning (MoCo v2).

Xinlei Chen, Haoqi Fan, Ross Girshick, Kaiming He. 2020, arXiv 2003.04297; on Momentum Contrast for Unsupervised Visual
Representation Learning, CVPR 2020, arXiv 1911.05722.

Differs: the defaults suit small images and short runs (a queue of 4096 and not 65536, momentum 0.99 and not 0.999, a
hidden width of 512 and not the encoder's). Keys are not shuffled among devices: queries and keys pass through two
networks, each with the batch-norm statistics of its own micro-batch, of all ranks unless those are not synchronised.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.info_nce import extreme_temperature, info_nce


class MoCoV2(Pretext):
    """Identifies the key of the other view of a sample among the keys of earlier samples, which a queue holds.

    `negatives` is the length of the queue, K in the paper. `momentum` is the share of itself that the key network keeps
    at each step. `hidden` and `out` are the widths of the projection head, which is thrown away. At the start the loss
    is small, as random keys are easy to tell from; it rises while the queue fills with real ones.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        temperature: Positive = 0.2,
        momentum: Share = 0.99,
        negatives: Count = 4096,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.temperature, self.momentum, self.negatives = temperature, momentum, negatives
        self.hidden, self.out = hidden, out
        self.projector = mlp((encoder.dim, hidden, out), norm=False)
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)
        self.queue = Queue(negatives, out)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """What queries are made of, and what keys are."""
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        query = self.projector(self.encoder(views[0]).pooled)  # (B, out)
        with torch.no_grad():
            key = self.key_projector(self.key_encoder(views[1]).pooled)  # (B, out)
        unit_query, unit_key = (F.normalize(each.float(), dim=1) for each in (query, key))
        value, nearest = info_nce(unit_query, unit_key, self.queue.rows, self.temperature)
        return Loss(value, {"accuracy": nearest.float().mean()}, query, {"keys": unit_key})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        # Not earlier: a key in the queue before its own loss would be its query's positive and negative at once.
        self.queue.enqueue(kept["keys"])
        follow(self.key_encoder, self.encoder, self.momentum, copy_buffers=False)
        follow(self.key_projector, self.projector, self.momentum, copy_buffers=False)  # equation 2 of MoCo

    def suspects(self) -> Sequence[Suspect]:
        suspects = [*extreme_temperature(self.temperature, usual=0.2)]
        if self.momentum < 0.9:  # MoCo, section 4.1: without momentum the loss fails to converge
            cause = f"pretext.momentum={self.momentum:g}, keys of different steps cannot be compared"
            suspects.append(Suspect(cause, "pretext.momentum=0.99", 0.8 - 0.5 * self.momentum))
        return suspects
