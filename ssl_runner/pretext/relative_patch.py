"""Unsupervised Visual Representation Learning by Context Prediction.

Carl Doersch, Abhinav Gupta, Alexei A. Efros. ICCV 2015, arXiv 1505.05192.

Differs: the defaults suit small images. All eight neighbours of a centre are asked for at once; the paper draws one.
Patches are divided by their standard deviation, too. No patch is made coarser and finer again, as small ones have no
detail to lose. Batch norm stands in the encoder and the head as elsewhere.

Shortcuts, and what is done about them (section 3.1):
- edges and textures that go on in the next patch: a gap, and each patch lies anywhere in its cell;
- brightness and contrast that change across an image: each patch is normalised by itself;
- colour fringes, which tell how far from a lens's axis a patch is: `colour`.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.tiles import cut_tiles, join_tiles, normalise_tiles, tile_side
from ssl_runner.augment.image.views import Views, column
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rng
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_encodable
from ssl_runner.layers.ranges import Count, Natural
from ssl_runner.loss.classification import score

CENTRE = 4  # of nine patches in raster order
GREEN_MAGENTA = (-1.0, 2.0, -1.0)
Colour = Literal["keep", "project", "drop"]


class RelativePatch(Pretext):
    """Shows the centre of 3 x 3 patches and a neighbour, each to the encoder by itself, and asks where the latter is.

    gap: pixels between neighbouring patches at least; a patch has three quarters of its cell, and moves in the rest.
    colour: "project" takes the difference of green and magenta off each pixel; "drop" leaves each patch one channel,
        drawn for it, and noise of a hundredth of its standard deviation in the others; "keep" leaves colours alone.
    normalise: each patch to zero mean and unit standard deviation, as the encoder sees it.
    width: of the head's hidden layer.
    Raises ValueError if the gap is too wide, the encoder cannot encode patches, or what is to lose colour has none.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        gap: Natural = 1,
        colour: Colour = "keep",
        normalise: bool = True,
        width: Count = 512,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.gap, self.colour, self.normalise, self.width = gap, colour, normalise, width
        if colour != "keep" and shape[0] != 3:
            raise ValueError(f"pretext.colour={colour} is for 3 channels, not {shape[0]}; type pretext.colour=keep")
        pixels = augment.size or min(shape[1:])
        side = tile_side((pixels, pixels), 3, gap)
        check_encodable(encoder, shape[0], side, "patches", f"pretext.augment.size={2 * pixels}")
        self.head = mlp((2 * encoder.dim, width, 8))

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "n c s s"]]:
        """Nine patches of each sample, place after place."""
        x = self.augment(batch.x, ctx.rng)
        patches = cut_tiles(x, 3, tile_side((x.shape[2], x.shape[3]), 3), ctx.rng, self.gap).flatten(0, 1)
        if self.colour == "keep":
            return (patches,)
        return (project_colours(patches) if self.colour == "project" else drop_colours(patches, ctx.rng),)

    def forward(self, views: tuple[Float[Tensor, "n c s s"]], group: str = "main") -> Loss:
        logits, pooled = self.locate(*views)
        place = torch.arange(8, device=logits.device).repeat_interleave(len(logits) // 8)
        value, hits = score(logits, place, "cross_entropy")
        return Loss(value, {"accuracy": hits.mean()}, pooled)

    def locate(self, patches: Float[Tensor, "n c s s"]) -> tuple[Float[Tensor, "m 8"], Float[Tensor, "n d"]]:
        """Logits of the place of each neighbour, eight of B rows each; and the features of all patches."""
        if self.normalise:
            patches = normalise_tiles(patches, self.encoder.mean, self.encoder.std)
        pooled = self.encoder(patches).pooled
        z = pooled.unflatten(0, (9, -1))  # (9, B, dim)
        pairs = torch.cat([z[CENTRE].expand(8, -1, -1), neighbours(z)], 2)  # (8, B, 2 dim)
        return self.head(pairs.flatten(0, 1)), pooled

    def pictures(self, views: tuple[Float[Tensor, "n c s s"]]) -> Mapping[str, Float[Tensor, "b c h w"]]:
        """The patches where they were, and the mean of those that each place was predicted for, black if none was."""
        patches = views[0].unflatten(0, (9, -1))  # (9, B, C, s, s)
        place = self.locate(views[0])[0].argmax(1).view(8, -1)
        chosen = (place[:, None] == torch.arange(8, device=place.device)[:, None]).float()  # (neighbour, place, B)
        mean = torch.einsum("kpb,kb...->pb...", chosen / chosen.sum(0).clamp(min=1), neighbours(patches))
        predicted = torch.cat([mean[:4], patches[CENTRE : CENTRE + 1], mean[4:]])
        return {"patches": join_tiles(patches, 3), "prediction": join_tiles(predicted, 3)}


def neighbours(patches: Float[Tensor, "9 b ..."]) -> Float[Tensor, "8 b ..."]:
    return torch.cat([patches[:CENTRE], patches[CENTRE + 1 :]])


def project_colours(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Without what a pixel has along the axis from magenta to green; clamped to [0, 1]."""
    axis = column(GREEN_MAGENTA, x.device)  # (3, 1)
    along = (x * axis[..., None]).sum(1, keepdim=True) / axis.square().sum()
    return (x - along * axis[..., None]).clamp(0, 1)


def drop_colours(x: Float[Tensor, "n 3 h w"], rng: Rng) -> Float[Tensor, "n 3 h w"]:
    """One channel of each image as it is, and in the two others grey with faint noise."""
    kept = rng.randint(3, len(x)).view(-1, 1, 1, 1)
    channel = torch.take_along_dim(x, kept, 1)  # (N, 1, h, w)
    noise = 0.01 * channel.std((1, 2, 3), correction=0, keepdim=True) * rng.randn(*x.shape)
    mine = torch.arange(3, device=x.device).view(3, 1, 1) == kept
    return torch.where(mine, x, 0.5 + noise).clamp(0, 1)
