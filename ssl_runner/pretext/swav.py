"""Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (SwAV).

Mathilde Caron, Ishan Misra, Julien Mairal, Priya Goyal, Piotr Bojanowski, Armand Joulin. NeurIPS 2020,
arXiv 2006.09882.

Differs: the defaults suit small images and short runs (4 local views and not 6, 128 prototypes and not 3000, hidden
width 512 and not 2048). The queue takes rows in from the first step, and is read once it holds no random ones. Batch
norm uses the statistics of a micro-batch, in the encoder for global and local views apart.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ssl_runner.augment.image.multi_crop import local_recipe, multi_crop
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.heads import UnitPrototypes, mlp
from ssl_runner.layers.image_encoder import check_local_views
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Natural, Positive
from ssl_runner.layers.schedule import rate_after
from ssl_runner.loss.distillation import view_cross_entropy
from ssl_runner.loss.sinkhorn import perplexity, sinkhorn

ONE_PERCENT, TEN_PERCENT = Duration(1.0, "%"), Duration(10.0, "%")


class SwAV(Pretext):
    """Predicts, from any view of a sample, to which prototypes its other global view is assigned.

    Assignments are made for a batch at once, so that every prototype gets the same share: they cannot collapse.

    augment: the two global views. augment_local: the local views, which are not assigned; of half the side of the
        global ones if its size is null.
    epsilon: of Sinkhorn's assignments, in `iterations` rounds; the larger, the softer they are.
    hidden, out: widths of the projection head.
    freeze: how long the prototypes stay as they are at the start.
    queue: projections of earlier samples that are assigned beside the batch, for each global view; from `queue_starts`.
        Together they should be several times as many as prototypes.
    Raises ValueError if the encoder cannot encode local views.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_local: Views,
        local_views: Natural = 4,
        temperature: Positive = 0.1,
        epsilon: Positive = 0.05,
        iterations: Count = 3,
        hidden: Count = 512,
        out: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 128,
        freeze: Duration = ONE_PERCENT,
        queue: Natural = 1024,
        queue_starts: Duration = TEN_PERCENT,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.local_views, self.temperature, self.epsilon, self.iterations = (
            local_views,
            temperature,
            epsilon,
            iterations,
        )
        self.hidden, self.out, self.prototypes, self.freeze = hidden, out, prototypes, freeze
        self.queue, self.queue_starts = queue, queue_starts
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        parts = {"projector": mlp((encoder.dim, hidden, out)), "prototypes": UnitPrototypes(out, prototypes)}
        self.head = nn.Sequential(OrderedDict(parts))
        self.queues = nn.ModuleList(Queue(queue, out) for _ in range(2 if queue else 0))
        self.register_buffer("queue_weight", torch.zeros(()), persistent=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Global views (2B, C, H, W) and local ones (local_views * B, C, h, w), view after view."""
        recipes = (self.augment, self.augment)
        return multi_crop(batch.x, ctx.rng, recipes, self.augment_local, self.local_views)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.head.projector(torch.cat([self.encoder(view).pooled for view in views]))  # (V B, out)
        earlier = [queue.rows for queue in self.queues]
        samples = len(views[0]) // 2
        scores = self.head.prototypes(torch.cat([z, *earlier]))  # (V B + 2 queue, K), the cosines z c
        by_view, queued = scores[: len(z)].unflatten(0, (-1, samples)), scores[len(z) :].detach()
        others = queued.chunk(2) if self.queue else (None, None)
        targets = torch.stack([self.assign(*each) for each in zip(by_view[:2], others, strict=True)])  # (2, B, K)
        value = view_cross_entropy(targets, by_view, self.temperature)  # equation 2
        probabilities = (by_view[:2].detach().flatten(0, 1) / self.temperature).softmax(dim=1)
        first, second = z[: 2 * samples].detach().chunk(2)
        kept = {"first": first, "second": second} if self.queue else {}
        return Loss(value, {"perplexity": perplexity(probabilities)}, z[: 2 * samples], kept)

    def assign(self, scores: Tensor, others: Tensor | None) -> Tensor:
        """Equation 3: the assignments of one view's samples, beside those of its queue."""
        earlier = None if others is None else others / self.epsilon
        return sinkhorn(scores / self.epsilon, self.iterations, earlier, self.queue_weight)

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {"head.prototypes": rate_after(self.freeze, ctx)}

    def before_step(self, ctx: Context) -> None:
        self.head.prototypes.normalise()
        starts = self.queue_starts.steps(ctx.length.steps_per_epoch, ctx.length.steps)
        full = ctx.step * ctx.length.batch_size >= self.queue
        self.queue_weight.fill_(float(full and ctx.step >= starts))

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        # Not earlier: a projection in the queue before its own assignment would be counted twice.
        for queue, rows in zip(self.queues, kept.values(), strict=True):
            queue.enqueue(rows)

    def suspects(self) -> Sequence[Suspect]:
        if self.epsilon >= self.temperature:
            cause = f"pretext.epsilon={self.epsilon:g}, assignments are softer than predictions"
            return [Suspect(cause, f"pretext.epsilon={self.temperature / 2:g}", 0.8)]
        return []
