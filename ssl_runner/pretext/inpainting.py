"""Context Encoders: Feature Learning by Inpainting.

Deepak Pathak, Philipp Krähenbühl, Jeff Donahue, Trevor Darrell, Alexei A. Efros. CVPR 2016, arXiv 1604.07379.

Differs: the loss is reconstruction alone; the adversarial one is there for sharp fillings, and not for features. The
decoder upsamples and convolves, and has no transposed convolutions. A random region is cut anew for each image out of
smooth noise of its own. The default hole is not the paper's best for features, a random region, but one that small
images of one object learn more from.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssl_runner.augment.image.holes import Region, draw_holes
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.decoder import MapDecoder
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.layers.ranges import Natural

Image = Float[Tensor, "b c h w"]
Holed = tuple[Image, Image, Bool[Tensor, "b h w"]]
OVERLAP_WEIGHT = 10.0


class Inpainting(Pretext):
    """Fills a hole in each image with what its surroundings ask for.

    region: "centre", a square; "blocks", three of them anywhere; "random", of any shape.
    share: of the image that is hidden. cells: a side of the noise that a random region is cut of.
    overlap: pixels around the hole that are predicted, too, and weigh ten times as much, so that a filling joins on.
    width: of the decoder. Before it comes the paper's channel-wise fully connected layer, by which places reach each
    other; it has dim * tokens^2 weights.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        region: Region = "centre",
        share: Annotated[float, Interval(gt=0, lt=1)] = 0.25,
        cells: Annotated[int, Ge(2)] = 4,
        overlap: Natural = 0,
        width: Annotated[int, Ge(16)] = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.region, self.share, self.cells = region, share, cells
        self.overlap, self.width = overlap, width
        size = (augment.size, augment.size) if augment.size else shape[1:]
        grid = grid_of(encoder, (shape[0], *size))
        tokens = grid[0] * grid[1]
        self.channel_wise = nn.Parameter(torch.eye(tokens) + torch.randn(encoder.dim, tokens, tokens) / tokens)
        self.decoder = MapDecoder(encoder.dim, grid, shape[0], size, width)

    def views(self, batch: Batch, ctx: Context) -> Holed:
        """Samples with a hole of the mean colour, whole ones, and where the hole is."""
        x = self.augment(batch.x, ctx.rng)
        hole = draw_holes(len(x), (x.shape[2], x.shape[3]), self.region, self.share, self.cells, ctx.rng)
        return torch.where(hole[:, None], self.encoder.mean.view(-1, 1, 1), x), x, hole

    def forward(self, views: Holed, group: str = "main") -> Loss:
        holed, x, hole = views
        features = self.encoder(holed)
        error = (self.fill(features.tokens) - x).square().mean(1)  # (B, H, W)
        weight = self.weigh(hole)
        value = ((weight * error).sum((1, 2)) / weight.sum((1, 2))).mean()
        inside = (hole * error.detach()).sum() / hole.sum()
        return Loss(value, {"psnr": -10 * inside.log10()}, features.pooled)

    def fill(self, tokens: Float[Tensor, "b n d"]) -> Image:
        mixed = torch.einsum("bnd,dnm->bmd", tokens, self.channel_wise.to(tokens.dtype))
        return self.decoder(mixed).sigmoid()

    def weigh(self, hole: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        weight = hole.float()
        if self.overlap:
            near = F.max_pool2d(weight[:, None], 2 * self.overlap + 1, 1, self.overlap)[:, 0]
            weight = weight + OVERLAP_WEIGHT * (near - weight)
        return weight

    def pictures(self, views: Holed) -> Mapping[str, Image]:
        holed, x, hole = views
        filling = self.fill(self.encoder(holed).tokens)
        return {"holed": holed, "filled": torch.where(hole[:, None], filling, x), "target": x}

    def suspects(self) -> Sequence[Suspect]:
        if self.share > 0.8:
            cause = f"pretext.share={self.share:g}, too little is left to tell images apart"
            return [Suspect(cause, "pretext.share=0.25", 0.6)]
        return []
