"""ReSSL: Relational Self-Supervised Learning with Weak Augmentation.

Mingkai Zheng, Shan You, Fei Wang, Chen Qian, Changshui Zhang, Xiaogang Wang, Chang Xu. NeurIPS 2021, arXiv 2107.09282.

Differs: the defaults suit small images and short runs (a queue of 1024 and not 131072, momentum 0.99 and not 0.999,
widths of 512 and 128 and not 4096 and 512). Keys are not shuffled among devices: student and teacher are two networks,
each with the batch-norm statistics of its own micro-batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, suspect_momentum
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Positive, Share


class ReSSL(Pretext):
    """Predicts, from a strongly augmented view, how similar earlier samples are to a weakly augmented one.

    augment, augment_weak: what the student sees, and what its teacher does.
    temperature, teacher_temperature: of the two distributions over earlier samples; the teacher's must be the sharper.
    momentum: share of itself that the teacher keeps at each step.
    anchors: length of the queue of the teacher's projections of earlier samples.
    hidden, out: widths of the projection head, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_weak: Views,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.04,
        momentum: Share = 0.99,
        anchors: Count = 1024,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_weak = encoder, augment, augment_weak
        self.temperature, self.teacher_temperature, self.momentum = temperature, teacher_temperature, momentum
        self.anchors, self.hidden, self.out = anchors, hidden, out
        self.projector = mlp((encoder.dim, hidden, out), norm=False)
        self.teacher_encoder = frozen_copy(self.encoder)
        self.teacher_projector = frozen_copy(self.projector)
        self.queue = Queue(anchors, out)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_weak(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(self.encoder(views[0]).pooled)  # (B, out)
        with torch.no_grad():
            key = self.teacher_projector(self.teacher_encoder(views[1]).pooled)  # (B, out)
        with torch.autocast(z.device.type, enabled=False):
            query, key = (F.normalize(each.float(), dim=1) for each in (z, key))
            target = (key @ self.queue.rows.T / self.teacher_temperature).softmax(dim=1)  # (B, anchors)
            value = F.cross_entropy(query @ self.queue.rows.T / self.temperature, target)
            entropy = torch.special.entr(target).sum(dim=1).mean()  # log(anchors) if all projections are one point
        return Loss(value, {"entropy": entropy, "divergence": value.detach() - entropy}, z, {"keys": key})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.queue.enqueue(kept["keys"])  # not earlier: each sample would be most similar to itself
        follow(self.teacher_encoder, self.encoder, self.momentum, copy_buffers=False)
        follow(self.teacher_projector, self.projector, self.momentum, copy_buffers=False)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.teacher_temperature >= self.temperature:
            cause = f"pretext.teacher_temperature={self.teacher_temperature:g} does not sharpen the targets"
            suspects.append(Suspect(cause, f"pretext.teacher_temperature={0.4 * self.temperature:g}", 0.9))
        return [*suspects, *suspect_momentum(self.momentum, 0.99)]
