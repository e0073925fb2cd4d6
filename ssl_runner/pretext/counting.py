"""Representation Learning by Learning to Count.

Mehdi Noroozi, Hamed Pirsiavash, Paolo Favaro. ICCV 2017, arXiv 1708.06734.

Differs: the defaults suit small images, and counts are fewer. Images are halved by kernels of four pixels, drawn from a
range that holds the area, bilinear and bicubic ones; the paper draws a method of an image library. The other image is
the next of the batch. Batch norm stands in the encoder and the head as elsewhere.

Shortcuts, and what is done about them:
- what a kernel leaves in halved images tells them from tiles: the kernel is drawn for each sample;
- colours add up over tiles without anything being recognised: grey in augment.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import first_row, gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_encodable
from ssl_runner.layers.ranges import Count, NotNegative

OUTER = (-0.09375, 0.125)  # weight of each outer pixel of four: torch's bicubic, area at 0, bilinear with antialias


class Counting(Pretext):
    """Learns counts that add up: those of an image's quadrants to those of the image, and not to another image's.

    margin: squared distance that counts of another image are pushed to, M in the paper.
    out: how many counts there are. width: of the hidden layer before them.
    Raises ValueError if images have an odd side, or the encoder cannot encode them at half size.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        margin: NotNegative = 10.0,
        out: Count = 128,
        width: Count = 512,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.margin, self.out, self.width = margin, out, width
        height, wide = (augment.size,) * 2 if augment.size else shape[1:]
        if height % 2 or wide % 2:
            even = min(height, wide) // 2 * 2
            raise ValueError(f"{height}x{wide} px have no equal quadrants; type pretext.augment.size={even}")
        check_encodable(encoder, shape[0], min(height, wide) // 2, "quadrants", f"pretext.augment.size={2 * height}")
        self.head = mlp((encoder.dim, width, out))

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "n c h w"]]:
        """Each sample at half its size, D of x; its quadrants, T of x, (4 * B, C, H / 2, W / 2), place after place."""
        x = self.augment(batch.x, ctx.rng)
        half = halve(x, OUTER[0] + (OUTER[1] - OUTER[0]) * ctx.rng.rand(len(x)))
        return half, torch.cat([part for rows in x.chunk(2, 2) for part in rows.chunk(2, 3)])

    def forward(self, views: tuple[Float[Tensor, "b c h w"], Float[Tensor, "n c h w"]], group: str = "main") -> Loss:
        pooled = self.encoder(torch.cat(views)).pooled
        with torch.autocast(pooled.device.type, enabled=False):
            counts = F.relu(self.head(pooled.float()))
            whole, parts = counts[: len(views[0])], counts[len(views[0]) :].unflatten(0, (4, -1)).sum(0)
            everyone, first = gather(whole), first_row(whole)
            other = everyone.roll(-1, 0)[first : first + len(whole)]  # y
            near, far = ((each - parts).square().sum(1) for each in (whole, other))
            value = (near + F.relu(self.margin - far)).mean()
        metrics = {"count": counts.mean(), "distance": near.mean(), "distance_of_others": far.mean()}
        return Loss(value, {name: each.detach() for name, each in metrics.items()}, pooled)

    def suspects(self) -> Sequence[Suspect]:
        if self.margin == 0:
            return [Suspect("pretext.margin=0, counts of nothing add up in every image", "pretext.margin=10", 1.0)]
        return []


def halve(x: Float[Tensor, "b c h w"], outer: Float[Tensor, " b"]) -> Float[Tensor, "b c h2 w2"]:
    """Images at half their height and width, clamped to [0, 1].

    Each pixel is of four along each axis, outer pixels with the weight `outer` and inner ones with 0.5 - outer.
    """
    weight = outer.view(-1, 1, 1, 1)
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (2, 3):
        a, b, c, d = x.unfold(axis, 4, 2).unbind(-1)
        x = weight * (a + d) + (0.5 - weight) * (b + c)
    return x.clamp(0, 1)
