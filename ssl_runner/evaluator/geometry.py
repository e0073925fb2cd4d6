"""Label-free geometry of frozen features: rank, decay of the spectrum, spread, distance of views.

Each number has its paper in probing/geometry.py. None of them is better when larger at every size: they tell a run from
its own beginning, and a collapse from learning.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows, Samples
from ssl_runner.data.rows import evenly_spaced
from ssl_runner.duration import Duration
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.weights import device_of
from ssl_runner.probing import geometry
from ssl_runner.probing.protocol import Encode, Seed, require_finite

AT_ONCE = 512  # samples in a forward pass


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """RankMe, alpha-ReQ, LiDAR, alignment, uniformity, standard deviation and dead dimensions of pooled features.

    `rankme`, `rank` (RankMe of centred features), `alpha_req`, `uniformity`, `std` and `dead` are those of the samples
    as they are; `lidar` and `alignment` those of their views, and left out of text and audio. A rank is at most the
    number of samples, so ranks compare only at the same `samples`. A spectrum can be too short for `alpha_req`.
    Raises ValueError if there are fewer than two rows; FloatingPointError from the call, if a feature is not finite.
    """

    version = 3
    headline = "rankme"
    numbers = ("rankme", "rank", "alpha_req", "lidar", "alignment", "uniformity", "std", "dead")
    every: Duration
    samples: Annotated[int, Ge(2)] = 256  # training rows, drawn once; all of them if there are fewer
    views: Annotated[int, Ge(2)] = 4  # augmented versions of each of them
    augment: Views | None  # makes a view of images; None: no views
    seed: Seed = 0  # of rows and views; not the run's, so that runs are measured alike
    train: Rows
    sample: Samples

    def __post_init__(self) -> None:
        if len(self.train) < 2:
            raise ValueError(f"geometry needs two training rows, and there are {len(self.train)}; leave geometry out")

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        device = device_of(encoder)
        rows = self.draw_rows()
        rng = CounterRng(self.seed, device)
        augment = self.augment if self.sample.kind == "image" else None
        plain, viewed = [], []
        for index in rows.split(AT_ONCE):
            x = self.sample.from_rows(self.train[index].to(device))
            plain.append(encoder(x).pooled.float())  # (b, d)
            if augment is not None:
                viewed.append(torch.stack([encoder(augment(x, rng)).pooled.float() for _ in range(self.views)], 1))
        require_finite(*plain, *viewed)
        z = torch.cat(plain)  # (n, d)
        u = F.normalize(z, dim=1)
        values = {"rankme": geometry.rankme(z), "rank": geometry.centred_rank(z), "alpha_req": geometry.alpha_req(z)}
        if viewed:
            v = torch.cat(viewed)  # (n, q, d)
            values |= {"lidar": geometry.lidar(v), "alignment": geometry.alignment(F.normalize(v, dim=2))}
        values |= {"uniformity": geometry.uniformity(u), "std": geometry.unit_std(u), "dead": geometry.dead_share(z)}
        return {name: Metric(value, None, "number") for name, value in values.items() if isfinite(value)}

    def draw_rows(self) -> Int[Tensor, " n"]:
        """In order; of rows in shards evenly spaced ones of a few shards, since each may have to be downloaded."""
        if getattr(self.train, "stretches", None) is not None:
            return evenly_spaced(self.train, self.samples)
        rng = torch.Generator().manual_seed(self.seed)
        return torch.randperm(len(self.train), generator=rng)[: self.samples].sort().values
