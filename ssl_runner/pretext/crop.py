"""Crop prediction, after Unsupervised Visual Representation Learning by Context Prediction.

Carl Doersch, Abhinav Gupta, Alexei A. Efros. ICCV 2015, arXiv 1505.05192.

Differs: one window is placed in its image; the paper places one window beside another.

Shortcuts, and what is done about them:
- the image's border: a window lies inside the image, so no padding is seen; with jitter < 1 none touches the border;
- resampling: every class is enlarged by the same factor, and jitter of more than a pixel mixes the sub-pixel phases,
  which would otherwise be a function of the class (so jitter = 0 invites cheating);
- the blocks of 8 and 16 pixels that JPEG codes an image in, whose place in a window tells the window's: nothing, unless
  windows begin where blocks do, as of 32 px with size = 0.5, grid = 2 and jitter = 0, or augment blurs;
- colour fringes and vignetting grow away from a lens's axis and tell the place (section 3.1): colour jitter and grey in
  augment weaken that.
"""

from typing import Annotated

from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.augment.image.window import cut_regions
from ssl_runner.contract import Batch, Context, Encoder
from ssl_runner.layers.ranges import Share
from ssl_runner.loss.classification import Score, TransformationTask, check_still


class Crop(TransformationTask):
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
        jitter: Share = 0.5,
        loss: Score = "cross_entropy",
    ):
        check_still(augment, "moves the regions that are the labels")
        super().__init__(encoder, augment, grid * grid, loss)
        self.grid, self.size, self.jitter = grid, size, jitter

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]:
        x, region = cut_regions(batch.x, self.grid, self.size, self.jitter, self.augment.size, ctx.rng)
        return self.augment(x, ctx.rng), region
