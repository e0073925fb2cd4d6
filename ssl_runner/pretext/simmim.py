"""SimMIM: A Simple Framework for Masked Image Modeling.

Zhenda Xie, Zheng Zhang, Yue Cao, Yutong Lin, Jianmin Bao, Zhuliang Yao, Qi Dai, Han Hu. CVPR 2022, arXiv 2111.09886.

Differs: units of 8 px and not of 32, for images of 32 px and not of 192. An encoder that cannot hide tokens, as a
convolutional one, sees hidden pixels in one learnt colour, and its cells are predicted as patches are. By default a
block of a narrow decoder is between tokens and pixels, and sees pooled features as well: the paper, which trains for
long and then all weights again with labels, does best with a linear layer alone, but then no loss is of what the last
layer makes of shown patches, and these are what features are of.
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.block_mask import unit_masks, units_of
from ssl_runner.augment.image.mask import patch_count
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Suspect
from ssl_runner.layers.image_encoder import patch_grid
from ssl_runner.layers.ranges import Count, Natural, Positive
from ssl_runner.layers.token_predictor import TokenDecoder
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.loss.patch_pixels import (
    Patches,
    encode_shown,
    hiding_token,
    patch_pictures,
    pixel_targets,
    suspect_ratio,
)


class SimMIM(Pretext):
    """Predicts the pixels of hidden squares from a whole image in which a learnt token stands for them.

    ratio: share of squares that is hidden, rounded; at least one is hidden and one shown. unit: their side in pixels,
        to the nearest whole patch each way. normalise: pixels of each target patch to zero mean and unit variance, to
        which epsilon is added before; that of all pixels is 1.
    depth, width, heads: of the decoder, which is thrown away; of depth 0 it is a linear layer on hidden patches alone.
    Raises ValueError for an encoder whose tokens are no patches, if squares do not fill the image, or one does, and for
    a width that `heads` or 4 does not divide.
    """

    units: Tensor

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        unit: Count = 8,
        normalise: bool = False,
        epsilon: Positive = 0.1,
        depth: Natural = 1,
        width: Annotated[int, Ge(4)] = 64,
        heads: Count = 4,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.ratio, self.unit, self.normalise, self.epsilon = ratio, unit, normalise, epsilon
        self.depth, self.width, self.heads = depth, width, heads
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        sides = tuple(max(1, round(unit / side)) for side in self.patch)  # in patches, which may be no squares
        self.register_buffer("units", units_of(self.grid, sides), persistent=False)
        if len(self.units) == 1:
            raise ValueError(f"pretext.unit={unit} is the whole image; type pretext.unit={min(self.patch)}")
        self.hidden = patch_count(len(self.units), ratio)
        self.token = hiding_token(encoder, shape[0])
        numbers = self.patch[0] * self.patch[1] * shape[0]
        if depth:
            self.decoder = TokenDecoder(encoder.dim, self.grid, numbers, width=width, depth=depth, heads=heads)
        else:
            self.predict = nn.Linear(encoder.dim, numbers)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and positions of the patches hidden (B, m)."""
        _, masked = unit_masks(len(batch.x), self.units, self.hidden, ctx.rng)
        return self.augment(batch.x, ctx.rng), masked

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, masked = views
        features = self.encode(x, masked)
        error = self.decode(features, masked) - self.target(x, masked)[0]
        return Loss(error.abs().mean(), {}, features.pooled)

    def target(self, x: Float[Tensor, "b c h w"], masked: Int[Tensor, "b m"]) -> tuple[Patches, Patches, Patches]:
        """The hidden patches of the samples as the encoder normalises them, less an offset, over a scale; these two."""
        return pixel_targets(self.encoder.normalise(x), masked, self.patch, self.normalise, self.epsilon)

    def encode(self, x: Float[Tensor, "b c h w"], masked: Int[Tensor, "b m"]) -> Features:
        return encode_shown(self.encoder, x, masked, self.token, self.patch, self.grid)

    def decode(self, features: Features, masked: Int[Tensor, "b m"]) -> Patches:
        if self.depth:
            return take_tokens(self.decoder(features.tokens, features.pooled), masked).float()  # (B, m, patch pixels)
        return self.predict(take_tokens(features.tokens, masked)).float()

    def pictures(self, views: tuple) -> dict[str, Float[Tensor, "b c h w"]]:
        x, masked = views
        _, offset, scale = self.target(x, masked)
        filling = self.decode(self.encode(x, masked), masked) * scale + offset
        return patch_pictures(self.encoder, x, masked, filling, self.patch, self.grid)

    def suspects(self) -> Sequence[Suspect]:
        return suspect_ratio(self.ratio, 0.6, 0.2, f"{len(self.units) - self.hidden} of {len(self.units)} squares")
