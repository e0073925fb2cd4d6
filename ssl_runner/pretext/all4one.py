"""All4One: Symbiotic Neighbour Contrastive Learning via Self-Attention and Redundancy Reduction.

Imanol G. Estepa, Ignacio Sarasúa, Bhalaji Nagarajan, Petia Radeva. ICCV 2023, arXiv 2303.09417.

Differs: the defaults suit small images and short runs (a queue of 2048 and not 98304, widths of 512 and 128 and not
2048, 4096 and 256, momentum 0.99 for these). The transformer has no dropout, so that a step is a function of its views.
It learns at the rate of the rest, and not at a tenth of it, and the positions that it is told are those of the
neighbours, where the authors' code encodes dimensions. Negatives and correlations are of a micro-batch, on all ranks.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.ranges import Count, NotNegative, Positive, Share
from ssl_runner.layers.transformer import sine_cosine
from ssl_runner.loss.covariance import off_diagonal
from ssl_runner.loss.embedding import unit
from ssl_runner.loss.info_nce import extreme_temperature, in_batch

Neighbours = Float[Tensor, "b k d"]


def redundancy(
    z: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], z_prime: Float[Tensor, "n d"], prime: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """How far dimensions of one view are from those of the teacher's other view, and like others of it, at least 0.

    Half the root mean square of 1 - C_ii, and half that of C_ij, C being cosines of dimensions over the batch.
    """
    with torch.autocast(z.device.type, enabled=False):
        pairs = ((z, prime), (z_prime, teacher))
        cosines = torch.stack([unit(gather(b.float()).T) @ unit(gather(a.float()).T).T for a, b in pairs])  # (2, d, d)
        on = (1 - cosines.diagonal(dim1=1, dim2=2)).square().mean()
        off = torch.stack([off_diagonal(each) for each in cosines]).square().sum() / cosines[:, 1:].numel()
        return ((on + 1e-12).sqrt() + (off + 1e-12).sqrt()) / 2  # the root of 0 has no gradient


class All4One(Pretext):
    """Predicts the nearest neighbour of a sample, what a transformer makes of several, and each dimension by itself.

    queue: the support set, of the teacher's projections of first views. It is random at the start, and neighbours mean
        something once it was filled. neighbours: how many of them the transformer mixes, of `depth` layers.
    attention_temperature: of the mixed neighbours; `temperature` of the nearest one.
    neighbour_weight, attention_weight, redundancy_weight: of the three losses.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    hidden, out: widths of projector and predictors. Raises ValueError if `heads` does not divide `out`, or 2 not.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_prime: Views,
        temperature: Positive = 0.2,
        attention_temperature: Positive = 0.1,
        queue: Count = 2048,
        neighbours: Annotated[int, Ge(2)] = 5,
        depth: Count = 3,
        heads: Count = 8,
        neighbour_weight: NotNegative = 0.5,
        attention_weight: NotNegative = 0.5,
        redundancy_weight: NotNegative = 5.0,
        momentum: Share = 0.99,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        if out % heads or out % 2:
            raise ValueError(f"pretext.out={out} must be even and a multiple of pretext.heads={heads}; 128 and 8 are")
        if queue < neighbours:
            raise ValueError(f"pretext.queue={queue} has no {neighbours} neighbours; type pretext.queue=2048")
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.temperature, self.attention_temperature = temperature, attention_temperature
        self.queue, self.neighbours, self.depth, self.heads = queue, neighbours, depth, heads
        self.momentum = momentum
        self.neighbour_weight, self.attention_weight = neighbour_weight, attention_weight
        self.redundancy_weight, self.hidden, self.out = redundancy_weight, hidden, out
        self.projector = mlp((encoder.dim, hidden, hidden, out), last="norm")
        self.predictor, self.mixed_predictor = mlp((out, hidden, out)), mlp((out, hidden, out))
        layers = (nn.TransformerEncoderLayer(out, heads, 2 * out, dropout=0.0, batch_first=True) for _ in range(depth))
        self.transformer = nn.Sequential(*layers)
        self.teacher_encoder, self.teacher_projector = frozen_copy(self.encoder), frozen_copy(self.projector)
        self.support = Queue(queue, out)
        self.register_buffer("positions", sine_cosine((neighbours,), out), persistent=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    @torch.no_grad()
    def nearest(self, teacher: Float[Tensor, "b d"]) -> Neighbours:
        """The rows of the support set that are nearest to each projection of the teacher, the nearest first."""
        with torch.autocast(teacher.device.type, enabled=False):
            places = (F.normalize(teacher.float(), dim=1) @ self.support.rows.T).topk(self.neighbours, dim=1).indices
            return self.support.rows[places]

    def mix(self, tokens: Neighbours) -> Float[Tensor, "b d"]:
        """What the transformer makes of the first of some tokens that it sees together."""
        return self.transformer(tokens + self.positions)[:, 0]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no negatives; raise batch_size or lower accumulate")
        z = [self.projector(self.encoder(view).pooled) for view in views]  # each (B, out)
        with torch.no_grad():
            teacher = [F.normalize(self.teacher_projector(self.teacher_encoder(view).pooled).float()) for view in views]
        near = [self.nearest(each) for each in teacher]
        shifted = [
            torch.cat([self.mixed_predictor(each)[:, None].float(), rows[:, :-1]], dim=1)
            for each, rows in zip(z, near, strict=True)
        ]
        first, second, first_shifted, second_shifted = self.mix(torch.cat([*near, *shifted])).chunk(4)
        attention = [
            in_batch(first, second_shifted, self.attention_temperature)[0],
            in_batch(second, first_shifted, self.attention_temperature)[0],
        ]
        value, hits = in_batch(near[0][:, 0], self.predictor(z[1]), self.temperature)
        value_prime, hits_prime = in_batch(near[1][:, 0], self.predictor(z[0]), self.temperature)
        parts = {
            "neighbour": (value + value_prime) / 2,
            "attention": (attention[0] + attention[1]) / 2,
            "redundancy": redundancy(z[0], teacher[0], z[1], teacher[1]),
        }
        weights = (self.neighbour_weight, self.attention_weight, self.redundancy_weight)
        total = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
        metrics = {name: part.detach() for name, part in parts.items()}
        metrics["accuracy"] = torch.cat([hits, hits_prime]).float().mean()
        return Loss(torch.as_tensor(total), metrics, torch.cat(z), {"keys": teacher[0]})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.support.enqueue(kept["keys"])  # not earlier: each projection would be its own nearest neighbour
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.teacher_projector, self.projector, momentum, copy_buffers=False)

    def suspects(self) -> Sequence[Suspect]:
        return extreme_temperature(self.temperature, usual=0.2)
