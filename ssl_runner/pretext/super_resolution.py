"""Image Super-Resolution Using Deep Convolutional Networks (SRCNN), as a pretext task.

Chao Dong, Chen Change Loy, Kaiming He, Xiaoou Tang. IEEE TPAMI 2016, arXiv 1501.00092. As there, the network reads the
small image enlarged by bicubic interpolation. It learns what is to be added to that: J. Kim, J. K. Lee, K. M. Lee,
"Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016, arXiv 1511.04587.

Differs: the network is an encoder that pools, and a decoder. All channels are learnt, and not the luma alone. Small
images are means of squares of pixels. The factor is 4 and not 2 or 3, whose detail edges alone would tell.
"""

from collections.abc import Mapping
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.decoder import MapDecoder
from ssl_runner.layers.image_encoder import grid_of

Image = Float[Tensor, "b c h w"]


class SuperResolution(Pretext):
    """Predicts the detail that an image lost when it was made small and large again.

    factor: pixels a side of the squares that become one pixel. width: of the decoder.
    Raises ValueError if `factor` does not divide the sides of images.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        factor: Annotated[int, Ge(2)] = 4,
        width: Annotated[int, Ge(16)] = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.factor, self.width = encoder, augment, factor, width
        size = (augment.size, augment.size) if augment.size else shape[1:]
        if size[0] % factor or size[1] % factor:
            fitting = f"pretext.augment.size={min(size) // factor * factor}"
            raise ValueError(f"pretext.factor={factor} does not divide {size[0]}x{size[1]} px; type {fitting}")
        self.decoder = MapDecoder(encoder.dim, grid_of(encoder, (shape[0], *size)), shape[0], size, width)

    def views(self, batch: Batch, ctx: Context) -> tuple[Image, Image]:
        """Small images, enlarged; and sharp ones."""
        sharp = self.augment(batch.x, ctx.rng)
        small = F.avg_pool2d(sharp, self.factor)
        return F.interpolate(small, sharp.shape[2:], mode="bicubic", align_corners=False).clamp(0, 1), sharp

    def forward(self, views: tuple[Image, Image], group: str = "main") -> Loss:
        blurred, sharp = views
        features, detail = self.encoder(blurred), sharp - blurred
        error = (self.restore(features.tokens) - detail).square().mean((0, 2, 3))  # (C,)
        gain = detail.square().mean((0, 2, 3)).sum() / error.detach().sum()  # over bicubic interpolation, which adds 0
        return Loss((error / self.encoder.std.square()).mean(), {"psnr_gain": 10 * gain.log10()}, features.pooled)

    def restore(self, tokens: Float[Tensor, "b n d"]) -> Image:
        """Detail to be added, which is decoded in the units that the encoder sees."""
        return self.decoder(tokens) * self.encoder.std.view(-1, 1, 1)

    def pictures(self, views: tuple[Image, Image]) -> Mapping[str, Image]:
        blurred, sharp = views
        restored = blurred + self.restore(self.encoder(blurred).tokens)
        return {"blurred": blurred, "restored": restored.clamp(0, 1), "target": sharp}
