"""Self-Supervised Learning of Pretext-Invariant Representations (PIRL).

Ishan Misra, Laurens van der Maaten. CVPR 2020, arXiv 1912.01991. The transformation is their jigsaw puzzle.

Differs: the defaults suit small images (2 x 2 tiles and not 3 x 3, a temperature of 0.1 and not 0.07). Both losses are
a softmax over all rows of the memory bank, and not an estimate from some of them as negatives (32000 in the authors'
code). Tiles keep the size that they are cut at. The memory begins with what the untrained network makes of the samples,
and not at random. Batch norm uses the statistics of a micro-batch, for images and tiles apart.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from ssl_runner.augment.image.tiles import cut_tiles, draw_orders, reorder, tile_side
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.bank import Bank
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_encodable
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.instance import own_row


class PIRL(Pretext):
    """Identifies a sample among all others in a memory bank, both from a view of it and from its shuffled tiles.

    The memory is a running mean of the embeddings of views; those of tiles are brought to it and never enter it.

    augment: the views. augment_tiles: the views that are cut into tiles.
    grid: tiles a side. tile_weight: share of the loss of tiles, lambda in the paper.
    momentum: share of itself that a memory keeps when its sample is learnt from.
    out: width of the embeddings. The bank takes 4 * rows * out bytes.
    Raises ValueError if the encoder cannot encode tiles.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        rows: int,
        augment: Views,
        augment_tiles: Views,
        grid: Annotated[int, Interval(ge=2, le=8)] = 2,
        tile_weight: Share = 0.5,
        temperature: Positive = 0.1,
        momentum: Share = 0.5,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_tiles = encoder, augment, augment_tiles
        self.grid, self.tile_weight, self.temperature = grid, tile_weight, temperature
        self.momentum, self.out = momentum, out
        pixels = augment_tiles.size or min(shape[1:])
        side = tile_side((pixels, pixels), grid)
        check_encodable(encoder, shape[0], side, "tiles", f"pretext.augment_tiles.size={2 * pixels}")
        self.projector = mlp((encoder.dim, out))  # f
        self.tile_projector = mlp((encoder.dim, out))  # g: of each tile, then of all together
        self.tiles_projector = mlp((grid * grid * out, out))
        self.bank = Bank(rows, out, momentum)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """A view of each sample; n tiles of another, (n * B, C, h, w), place after place; rows in the training set."""
        image, cut = self.augment(batch.x, ctx.rng), self.augment_tiles(batch.x, ctx.rng)
        tiles = cut_tiles(cut, self.grid, tile_side((cut.shape[2], cut.shape[3]), self.grid), ctx.rng)
        order = draw_orders(len(cut), len(tiles), ctx.rng)
        return image, reorder(tiles, order).flatten(0, 1), batch.index

    def forward(self, views: tuple, group: str = "main") -> Loss:
        image, tiles, index = views
        t = self.tile_projector(self.encoder(tiles).pooled).unflatten(0, (-1, len(index)))  # (n, B, out)
        g = self.tiles_projector(t.transpose(0, 1).flatten(1))  # (B, out)
        f = self.embed(image)
        of_tiles, tiles_nearest = own_row(g, self.bank.rows, index, self.temperature)
        of_image, nearest = own_row(f, self.bank.rows, index, self.temperature)
        value = self.tile_weight * of_tiles + (1 - self.tile_weight) * of_image
        metrics = {"accuracy": nearest.float().mean(), "tile_accuracy": tiles_nearest.float().mean()}
        return Loss(value, metrics, torch.cat([f, g]), {"embedding": f.detach(), "index": index})

    def embed(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x).pooled)  # f, (B, out)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0:
            self.bank.fill(self.embed, ctx.sweep())

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.bank.update(kept["embedding"], kept["index"])

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.tile_weight == 1:
            cause = "pretext.tile_weight=1, nothing teaches the embeddings of views that make the memory"
            suspects.append(Suspect(cause, "pretext.tile_weight=0.5", 0.8))
        if self.momentum == 1:
            cause = "pretext.momentum=1, the memory never changes"
            suspects.append(Suspect(cause, "pretext.momentum=0.5", 0.9))
        if not 0.02 <= self.temperature <= 1.5:
            side = "high, near and far rows are pushed alike" if self.temperature > 1 else "low, one row has it all"
            cause = f"pretext.temperature={self.temperature:g} is too {side}"
            suspects.append(Suspect(cause, "pretext.temperature=0.1", 0.6))
        return suspects
