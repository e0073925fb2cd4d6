"""Crop prediction, after Unsupervised Visual Representation Learning by Context Prediction.

Carl Doersch, Abhinav Gupta, Alexei A. Efros. ICCV 2015, arXiv 1505.05192.

Differs: one window is placed in its image; the paper places one window beside another.

Shortcuts, and what is done about them:
- the image's border: a window lies inside the image, so no padding is seen; with jitter < 1 none touches the border;
- resampling: every class is enlarged by the same factor, and jitter of more than a pixel mixes the sub-pixel phases,
  which would otherwise be a function of the class (so jitter = 0 invites cheating);
- colour fringes and vignetting grow away from a lens's axis and tell the place (section 3.1): colour jitter and grey in
  augment weaken that.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.augment.image.window import draw_regions
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.loss.classification import score


class Crop(Pretext):
    """Cuts a window out of one of grid x grid regions, enlarges it to a whole view, and asks the encoder which.

    grid: regions a side. size: side of the window as a share of the image's, in (0, 1). jitter: how much of its
    region's range a window's place varies over, in [0, 1]. augment is for colours, and comes after the window is cut.
    Raises ValueError if augment moves pixels, and so the regions.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        grid: Annotated[int, Ge(2)] = 3,
        size: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
        jitter: Annotated[float, Interval(ge=0, le=1)] = 0.5,
        loss: Literal["cross_entropy", "mse"] = "cross_entropy",
    ):
        super().__init__()
        for key, still in {"flip": 0, "vertical_flip": 0, "degrees": 0, "scale": (1, 1)}.items():
            if getattr(augment, key) != still:
                raise ValueError(
                    f"augment.{key}={getattr(augment, key)} moves the regions that are the labels; "
                    f"type pretext.augment.{key}={still if still == 0 else '[1,1]'}"
                )
        self.encoder = encoder
        self.augment = augment
        self.grid = grid
        self.size = size
        self.jitter = jitter
        self.loss = loss
        self.head = nn.Linear(encoder.dim, grid * grid)

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]:
        region, top, left = draw_regions(len(batch.x), self.grid, self.size, self.jitter, ctx.rng)
        side = torch.full_like(top, self.size)
        pixels = (self.augment.size, self.augment.size) if self.augment.size else tuple(batch.x.shape[-2:])
        window = geometry.crop_matrix(top, left, side, side)
        x = geometry.resample(batch.x, window, pixels, edge="border").clamp_(0, 1)
        return self.augment(x, ctx.rng), region

    def forward(self, views: tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]], group: str = "main") -> Loss:
        x, region = views
        pooled = self.encoder(x).pooled
        value, hits = score(self.head(pooled), region, self.loss)
        return Loss(value, {"accuracy": hits.mean()}, pooled)
