"""Geometry of frozen features, without labels: rank, decay of the spectrum, spread, and how close views lie.

Each number has its paper in probing/geometry.py. None of them is better when larger at every size: they tell a run from
its own beginning, and a collapse from learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows
from ssl_runner.duration import Duration
from ssl_runner.layers.weights import device_of
from ssl_runner.probing import geometry

AT_ONCE = 512  # samples in a forward pass


class Geometry:
    """RankMe, alpha-ReQ, LiDAR, alignment, uniformity, standard deviation and dead dimensions of pooled features.

    `rankme`, `rank` (RankMe of centred features), `alpha_req`, `uniformity`, `std` and `dead` are those of the samples
    as they are; `lidar` and `alignment` those of their views. A rank is at most the number of samples, so ranks compare
    where `samples` is the same. `alpha_req` is left out where the spectrum is too short for it.

    Args:
        every: how often it runs.
        samples: training rows that are looked at, drawn once; all of them where there are fewer.
        views: augmented versions of each of them.
        augment: what makes a view.
        seed: of the draw of rows and of views; not the run's, so that runs are measured alike.
        train: the rows that it draws from.

    Raises:
        ValueError: there are fewer than two rows.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 2
    headline = "rankme"

    def __init__(
        self,
        *,
        every: Duration,
        samples: Annotated[int, Ge(2)] = 256,
        views: Annotated[int, Ge(2)] = 4,
        augment: Views,
        seed: Annotated[int, Ge(0)] = 0,
        train: Rows,
    ):
        if len(train) < 2:
            raise ValueError(f"geometry needs two training rows, and there are {len(train)}; leave geometry out")
        self.every = every
        self.samples = samples
        self.views = views
        self.augment = augment
        self.seed = seed
        self.train = train

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        device = device_of(encoder)
        rows = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.seed))[: self.samples]
        rng = torch.Generator(device).manual_seed(self.seed)
        plain, viewed = [], []
        for index in rows.sort().values.split(AT_ONCE):
            x = self.train[index].to(device)
            x = x.float().div_(255) if x.dtype == torch.uint8 else x
            plain.append(encoder(x).pooled.float())  # (b, d)
            viewed.append(torch.stack([encoder(self.augment(x, rng)).pooled.float() for _ in range(self.views)], 1))
        z, v = torch.cat(plain), torch.cat(viewed)  # (n, d), (n, q, d)
        if not (z.isfinite().all() and v.isfinite().all()):
            raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
        u = F.normalize(z, dim=1)
        values = {
            "rankme": geometry.rankme(z),
            "rank": geometry.rank(z),
            "alpha_req": geometry.alpha_req(z),
            "lidar": geometry.lidar(v),
            "alignment": geometry.alignment(F.normalize(v, dim=2)),
            "uniformity": geometry.uniformity(u),
            "std": geometry.spread(u),
            "dead": geometry.dead(z),
        }
        return {name: Metric(value, None, "number") for name, value in values.items() if isfinite(value)}
