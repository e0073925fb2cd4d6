"""Unsupervised Visual Representation Learning by Synchronous Momentum Grouping (SMoG).

Bo Pang, Yifan Zhang, Yaoyi Li, Jia Cai, Cewu Lu. ECCV 2022, arXiv 2207.06167.

Differs: the defaults suit small images and short runs (128 groups and not 3000, which keep 0.9 of themselves and not
0.99, hidden width 512 and not 2048, no local views). The first groups are the clusters of a sweep. A group is moved by
rows of unit length, and has unit length. With micro-batches a loss sees groups that its own micro-batch has moved; the
groups of the next step are moved by the whole batch.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.k_means import k_means, nearest
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.sinkhorn import perplexity

TEN_PERCENT = Duration(10.0, "%")


class SMoG(Pretext):
    """Predicts the group of a sample's other view, as a teacher sees it, among groups that the batch has just moved.

    momentum: share of itself that the teacher keeps at each step. group_momentum: what a group keeps of itself in a
        step that has rows of it; beta in the paper.
    prototypes: the number of groups. Every `regroup` they are made anew by `iterations` of k-means on the newest
        `memory` projections, and the teacher by a copy of the student: groups without rows would stay without.
    hidden, out: widths of projection head and predictor.
    Raises ValueError if the memory has fewer rows than there are groups.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        temperature: Positive = 0.1,
        momentum: Share = 0.98,
        group_momentum: Share = 0.9,
        prototypes: Annotated[int, Ge(2)] = 128,
        regroup: Duration = TEN_PERCENT,
        memory: Count = 4096,
        iterations: Count = 10,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        if memory < prototypes:
            raise ValueError(
                f"{memory} rows are too few for {prototypes} groups; type pretext.memory={32 * prototypes}"
            )
        self.encoder, self.augment, self.temperature = encoder, augment, temperature
        self.momentum, self.group_momentum, self.prototypes = momentum, group_momentum, prototypes
        self.regroup, self.memory, self.iterations, self.hidden, self.out = regroup, memory, iterations, hidden, out
        self.projector = mlp((encoder.dim, hidden, out), last="plain_norm")
        self.predictor = mlp((out, hidden, out))
        self.teacher_encoder, self.teacher_projector = frozen_copy(encoder), frozen_copy(self.projector)
        self.recent = Queue(memory, out)
        self.register_buffer("group_features", F.normalize(torch.randn(prototypes, out), dim=1))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """The student's view and the teacher's."""
        return self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(self.encoder(views[0]).pooled)  # (B, out)
        prediction = self.predictor(z)
        with torch.no_grad():
            target = self.teacher_projector(self.teacher_encoder(views[1]).pooled)  # (B, out)
        with torch.autocast(z.device.type, enabled=False):
            rows, prediction, target = (F.normalize(each.float(), dim=1) for each in (z, prediction, target))
            members = self.members(target)  # (B, K), of the groups as they were
            logits = prediction @ self.moved(gather(rows)).T / self.temperature  # (B, K)
            value = F.cross_entropy(logits, members)
        right = members.gather(1, logits.argmax(dim=1, keepdim=True)).mean()
        return Loss(value, {"accuracy": right, "perplexity": perplexity(members)}, z, {"rows": rows.detach()})

    def members(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """1 for the group that is nearest to a row of unit length, 0 for the others."""
        place = nearest(rows, self.group_features)[:, None]
        return rows.new_zeros(len(rows), self.prototypes).scatter(1, place, 1.0)  # one_hot waits for the device

    def moved(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
        """The groups after a step towards the mean of their rows, through which rows have a gradient."""
        members = self.members(rows)
        count = members.sum(dim=0)[:, None]
        keep = torch.where(count > 0, self.group_momentum, 1.0)
        return F.normalize(keep * self.group_features + (1 - keep) * (members.T @ rows / count.clamp(min=1)), dim=1)

    def before_step(self, ctx: Context) -> None:
        full = ctx.step * ctx.length.batch_size >= self.memory
        if ctx.step == 0 or (full and ctx.step % ctx.length.every(self.regroup) == 0):
            views = (self.augment(batch.x, ctx.rng) for batch in ctx.sweep() if len(batch.x) > 1)  # for batch norm
            rows = self.recent.rows if ctx.step else torch.cat([self.projector(self.encoder(x).pooled) for x in views])
            groups, _ = k_means(rows, self.prototypes, self.iterations, ctx.rng)
            self.group_features.copy_(groups)
            self.follow(0.0)

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.group_features.copy_(self.moved(kept["rows"]))
        self.recent.enqueue(kept["rows"])
        self.follow(self.momentum)

    def follow(self, momentum: float) -> None:
        follow(self.teacher_encoder, self.encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.regroup.unit == "%" and self.regroup.amount > 50:
            cause = f"pretext.regroup={self.regroup}, groups without rows stay without"
            suspects.append(Suspect(cause, "pretext.regroup=10%", 0.8))
        if self.temperature > 0.5:
            cause = f"pretext.temperature={self.temperature:g} is high, groups are hardly told apart"
            suspects.append(Suspect(cause, "pretext.temperature=0.1", 0.6))
        return suspects
