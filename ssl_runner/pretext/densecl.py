"""Dense Contrastive Learning for Self-Supervised Visual Pre-Training (DenseCL).

Xinlong Wang, Rufeng Zhang, Chunhua Shen, Tao Kong, Lei Li. CVPR 2021, arXiv 2011.09157.

Differs: the defaults suit small images and short runs (queues of 4096 and not 65536, momentum 0.99 and not 0.999, a
hidden width of 512 and not the encoder's). Maps keep the encoder's grid, they are not pooled to one of S x S. Keys are
not shuffled among devices: queries and keys pass through two networks, each with its own batch-norm statistics.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.info_nce import info_nce


def corresponding(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b m d"], values: Float[Tensor, "b m k"]
) -> Float[Tensor, "b n k"]:
    """For each local feature of `query`, the row of `values` at the place of the most similar (cosine) one of `key`.

    In float32 also under autocast: places of an image are alike, and bfloat16 would not tell cosines near 1 apart.
    """
    with torch.autocast(query.device.type, enabled=False):
        similarity = F.normalize(query.float(), dim=2) @ F.normalize(key.float(), dim=2).transpose(1, 2)  # (B, n, m)
    return torch.take_along_dim(values, similarity.argmax(dim=2)[..., None], dim=1)


class DenseCL(Pretext):
    """MoCo v2, and the same for local features: the positive of a place of one view is the place of the other view
    whose backbone feature is the most similar; its negatives are means of earlier samples' local keys.

    `dense_weight` is the share of the dense loss, lambda in the paper. `negatives` is the length of each of the two
    queues. `momentum` is the share of itself that the key network keeps at each step. `hidden` and `out` are the widths
    of both projection heads, which are thrown away. At the start the losses are small, as random keys are easy to tell
    from; they rise while the queues fill. A `dense_accuracy` near 1 in the first epochs means that keys leak.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        dense_weight: Share = 0.5,
        temperature: Positive = 0.2,
        momentum: Share = 0.99,
        negatives: Count = 4096,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.dense_weight = encoder, augment, dense_weight
        self.temperature, self.momentum, self.negatives = temperature, momentum, negatives
        self.hidden, self.out = hidden, out
        self.projector = mlp((encoder.dim, hidden, out), norm=False)
        self.dense_projector = mlp((encoder.dim, hidden, out), norm=False)  # on each place: two 1x1 convolutions
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)
        self.key_dense_projector = frozen_copy(self.dense_projector)
        self.queue, self.dense_queue = Queue(negatives, out), Queue(negatives, out)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """What queries are made of, and what keys are."""
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        features = self.encoder(views[0])
        query, r = self.projector(features.pooled), self.dense_projector(features.tokens)  # (B, out), (B, n, out)
        with torch.no_grad():
            key_features = self.key_encoder(views[1])
            unit_key = F.normalize(self.key_projector(key_features.pooled).float(), dim=1)
            t = self.key_dense_projector(key_features.tokens).float()  # (B, n, out)
            # Places are matched by what the backbones make of them, and not the heads.
            positive = F.normalize(corresponding(features.tokens, key_features.tokens, t), dim=2)
            dense_key = F.normalize(t.mean(dim=1), dim=1)  # (B, out)
        unit_query, unit_r = F.normalize(query.float(), dim=1), F.normalize(r.float(), dim=2)
        value, nearest = info_nce(unit_query, unit_key, self.queue.rows, self.temperature)
        places = (unit_r.flatten(0, 1), positive.flatten(0, 1))  # (B n, out) each
        dense, dense_nearest = info_nce(*places, self.dense_queue.rows, self.temperature)
        metrics = {"accuracy": nearest.float().mean(), "dense_accuracy": dense_nearest.float().mean()}
        total = (1 - self.dense_weight) * value + self.dense_weight * dense
        return Loss(total, metrics, query, {"keys": unit_key, "dense_keys": dense_key})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        # Not earlier: a key in a queue before its own loss would be its query's positive and negative at once.
        self.queue.enqueue(kept["keys"])
        self.dense_queue.enqueue(kept["dense_keys"])
        for name in ("encoder", "projector", "dense_projector"):
            follow(getattr(self, f"key_{name}"), getattr(self, name), self.momentum, copy_buffers=False)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.dense_weight == 1:
            cause = "pretext.dense_weight=1, nothing teaches the features that places are matched by"
            suspects.append(Suspect(cause, "pretext.dense_weight=0.5", 0.8))
        if self.momentum < 0.9:
            cause = f"pretext.momentum={self.momentum:g}, keys of different steps cannot be compared"
            suspects.append(Suspect(cause, "pretext.momentum=0.99", 0.8 - 0.5 * self.momentum))
        if not 0.02 <= self.temperature <= 1.5:
            side = "high, near and far keys are pushed alike" if self.temperature > 1 else "low, one negative counts"
            cause = f"pretext.temperature={self.temperature:g} is too {side}"
            suspects.append(Suspect(cause, "pretext.temperature=0.2", 0.6))
        return suspects
