"""Colorful Image Colorization.

Richard Zhang, Phillip Isola, Alexei A. Efros. ECCV 2016, arXiv 1603.08511.

Differs: the bins are those that a colour of sRGB falls in, 261 of side 10; the paper has 313. Targets are the mean
(a, b) of squares of pixels. The encoder has three channels, so that it can be shown colours afterwards; here all three
hold the grey of the image's lightness. Colours are decoded from the encoder's tokens, by few layers.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.augment.image.lab import colour_bins, lab_to_rgb, rgb_to_lab
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.decoder import MapDecoder
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.layers.ranges import Count

NEIGHBOURS = 5  # bins that a colour is shared among
GREY = 5.0  # an image whose |a| and |b| are all below it is not learnt from
TEMPERATURE = 0.38  # of the annealed mean
SCALE = 50.0  # units of a and b that a regression's outputs count in
Map = Float[Tensor, "b c h w"]


class Colorisation(Pretext):
    """Predicts the colours of an image from its lightness: for each square the bin of the (a, b) plane.

    loss: "classification", or "regression" on (a, b) itself, which settles on greyish means.
    bin: side of a bin, in units of a and b; a colour is shared among its nearest bins by a Gaussian of half of that.
    rebalance: share of the uniform distribution in the one that a bin's weight is the inverse of, lambda in the paper;
        at 1 all bins weigh the same.
    stride: pixels a side of the squares whose colour is asked for. width: of the decoder.
    Raises ValueError if images have not three channels, or augment takes their colour; and when a run begins, if none
    of its training images has any.
    """

    weight: Tensor  # (Q,)
    bins: Tensor  # (Q, 2)

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        loss: Literal["classification", "regression"] = "classification",
        bin: Annotated[float, Interval(ge=5, le=60)] = 10.0,
        rebalance: Annotated[float, Interval(gt=0, le=1)] = 0.5,
        stride: Count = 4,
        width: Annotated[int, Ge(16)] = 128,
    ):
        super().__init__()
        if shape[0] != 3:
            raise ValueError(f"images of {shape[0]} channels have no colours to predict; type pretext=inpainting")
        if augment.grey > 0:
            grey = f"augment.grey={augment.grey:g} takes the colours that are to be predicted"
            raise ValueError(f"{grey}; type pretext.augment.grey=0")
        self.encoder, self.augment, self.loss = encoder, augment, loss
        self.bin, self.rebalance, self.stride, self.width = bin, rebalance, stride, width
        size = (augment.size, augment.size) if augment.size else shape[1:]
        grid = grid_of(encoder, (3, *size))
        self.size = tuple(max(cells, side // stride) for cells, side in zip(grid, size, strict=True))
        self.register_buffer("bins", colour_bins(bin), persistent=False)
        self.register_buffer("weight", torch.ones(len(self.bins)))
        self.decoder = MapDecoder(encoder.dim, grid, 2 if loss == "regression" else len(self.bins), self.size, width)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0 and self.loss == "classification":
            count = torch.zeros_like(self.weight)
            for x, _ in ctx.sweep():
                ab, bins = rgb_to_lab(x)[:, 1:], len(count)
                place = self.nearest(self.squares(ab), 1)[0].flatten(1) + bins * ~self.coloured(ab)[:, None]
                count += place.flatten().bincount(minlength=2 * bins)[:bins]
            if not count.any():
                raise ValueError("the training images have no colours to predict; type pretext=inpainting")
            self.weight.copy_(self.weights(count / count.sum()))

    def weights(self, share: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
        """Of the bins: the inverse of a mixture of smoothed and equal shares; its mean by the smoothed shares is 1."""
        smooth = torch.exp(-torch.cdist(self.bins, self.bins).square() / (2 * (self.bin / 2) ** 2))
        smoothed = smooth / smooth.sum(0) @ share
        weight = 1 / ((1 - self.rebalance) * smoothed + self.rebalance / len(share))
        return weight / (weight * smoothed).sum()

    def views(self, batch: Batch, ctx: Context) -> tuple[Map, Map]:
        """Grey images of the lightness of views, and the views."""
        colours = self.augment(batch.x, ctx.rng)
        lightness = rgb_to_lab(colours)[:, :1]
        grey = lab_to_rgb(torch.cat([lightness, torch.zeros_like(colours[:, 1:])], 1))
        return grey[:, :1].expand_as(grey).contiguous(), colours

    def forward(self, views: tuple[Map, Map], group: str = "main") -> Loss:
        grey, colours = views
        features = self.encoder(grey)
        output, ab = self.decoder(features.tokens), rgb_to_lab(colours)[:, 1:]
        target, seen = self.squares(ab), self.coloured(ab)[:, None, None]
        if self.loss == "regression":
            value = (seen * (output - target / SCALE).square().mean(1)).mean()
        else:
            index, share = self.nearest(target, NEIGHBOURS)  # (B, h, w, 5)
            log_p = output.log_softmax(1).permute(0, 2, 3, 1).gather(3, index)
            value = -(seen * self.weight[index[..., 0]] * (share * log_p).sum(3)).mean()
        error = (self.colours(output.detach()) - target).square().sum(1).sqrt()
        return Loss(value, {"ab_error": error.mean()}, features.pooled)

    def squares(self, ab: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h2 w2"]:
        return F.adaptive_avg_pool2d(ab, self.size)

    def coloured(self, ab: Float[Tensor, "b 2 h w"]) -> Bool[Tensor, " b"]:
        return ab.abs().flatten(1).amax(1) > GREY

    def nearest(
        self, ab: Float[Tensor, "b 2 h w"], count: int
    ) -> tuple[Int[Tensor, "b h w k"], Float[Tensor, "b h w k"]]:
        """The nearest bins of colours, the first one first, and the shares of each colour that they have."""
        difference = ab.permute(0, 2, 3, 1)[..., None, :] - self.bins  # (B, h, w, Q, 2)
        distance, index = difference.square().sum(4).topk(count, largest=False)
        return index, (-distance / (2 * (self.bin / 2) ** 2)).softmax(3)

    def colours(self, output: Map) -> Float[Tensor, "b 2 h w"]:
        """(a, b) of the decoder's output; of bins, the annealed mean."""
        if self.loss == "regression":
            return SCALE * output
        return torch.einsum("bqhw,qk->bkhw", (output / TEMPERATURE).softmax(1), self.bins)

    def pictures(self, views: tuple[Map, Map]) -> Mapping[str, Map]:
        grey, colours = views
        ab = F.interpolate(self.colours(self.decoder(self.encoder(grey).tokens)), grey.shape[2:], mode="bilinear")
        return {"grey": grey, "colouring": lab_to_rgb(torch.cat([rgb_to_lab(grey)[:, :1], ab], 1)), "target": colours}
