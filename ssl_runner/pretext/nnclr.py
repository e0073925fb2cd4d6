"""With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual Representations (NNCLR).

Debidatta Dwibedi, Yusuf Aytar, Jonathan Tompson, Pierre Sermanet, Andrew Zisserman. ICCV 2021, arXiv 2104.14548.

Differs: the defaults suit small images and short runs (a queue of 2048 and not 98304, widths of 512 and 128 and not
2048, 4096 and 256). Negatives are the other samples of the same micro-batch, on all ranks, and not those of other
micro-batches. Batch-norm statistics are those of a view of a micro-batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.info_nce import extreme_temperature, in_batch


class NNCLR(Pretext):
    """Predicts which earlier sample is nearest to the other view of a sample, among the predictions of the batch.

    neighbours: length of the support set Q, a queue of the projections of first views. It is random at the start, and
        neighbours mean something once it was filled, after neighbours / batch_size steps.
    hidden, out: widths of projector and predictor.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_prime: Views,
        temperature: Positive = 0.1,
        neighbours: Count = 2048,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.temperature, self.neighbours, self.hidden, self.out = temperature, neighbours, hidden, out
        self.projector = mlp((encoder.dim, hidden, hidden, out), last="norm")
        # The predictor's batch norm takes any shift off again: its gradient is rounding, which Adam would scale up.
        self.projector[-1].bias.requires_grad_(False)
        self.predictor = mlp((out, hidden, out))
        self.queue = Queue(neighbours, out)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The row of the support set that is nearest to each projection, which has no gradient."""
        with torch.autocast(z.device.type, enabled=False):
            return self.queue.rows[(F.normalize(z.float(), dim=1) @ self.queue.rows.T).argmax(dim=1)]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no negatives; raise batch_size or lower accumulate")
        z1, z2 = (self.projector(self.encoder(view).pooled) for view in views)  # each (B, out)
        neighbour = self.nearest(z1)
        first, hits = in_batch(neighbour, self.predictor(z2), self.temperature)
        second, hits_prime = in_batch(self.nearest(z2), self.predictor(z1), self.temperature)
        key = F.normalize(z1.detach().float(), dim=1)
        similarity = (neighbour * key).sum(dim=1).mean()  # 1 if all projections have collapsed to a point
        metrics = {"accuracy": torch.cat([hits, hits_prime]).float().mean(), "similarity": similarity}
        return Loss((first + second) / 2, metrics, torch.cat([z1, z2]), {"keys": key})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.queue.enqueue(kept["keys"])  # not earlier: each projection would be its own nearest neighbour

    def suspects(self) -> Sequence[Suspect]:
        return extreme_temperature(self.temperature, usual=0.1)
