"""Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles.

Mehdi Noroozi, Paolo Favaro. ECCV 2016, arXiv 1603.09246.

Differs: the defaults suit small images: 2 x 2 tiles and all of their 24 orders. Channels are not shifted against each
other, which no lens does to such images; colour jitter and grey in augment stand for it. The standard deviation that a
tile is divided by is of all channels together. Batch norm uses the statistics of all tiles of a micro-batch.

Shortcuts, and what is done about them:
- edges and textures that go on in the next tile: tiles are smaller than their cells, and lie anywhere in them;
- brightness and contrast that change across an image: each tile is normalised by itself;
- what stands where in every image: each image is shown in an order drawn for it.
"""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.tiles import cut_tiles, join_tiles, normalise_tiles, reorder, tile_side
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_encodable
from ssl_runner.layers.permutations import distant_permutations
from ssl_runner.layers.ranges import Count, Natural
from ssl_runner.loss.classification import score

Puzzle = tuple[Float[Tensor, "n c s s"], Int[Tensor, " b"]]  # tiles as shown, place after place; their orders


class Jigsaw(Pretext):
    """Shows the tiles of an image in one of some orders, each to the encoder by itself, and asks which order it is.

    grid: tiles a side. permutations: how many orders there are, as far apart as can be.
    gap: pixels between neighbouring tiles at least; a tile has three quarters of its cell, and moves in the rest.
    normalise: each tile to zero mean and unit standard deviation, as the encoder sees it.
    width: of a tile's embedding; the layer over all of them has four times as many units.
    Raises ValueError if there are fewer orders, the gap is too wide, or the encoder cannot encode tiles.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        grid: Annotated[int, Interval(ge=2, le=3)] = 2,
        permutations: Annotated[int, Interval(ge=2, le=2000)] = 24,
        gap: Natural = 1,
        normalise: bool = True,
        width: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.grid, self.permutations, self.gap = grid, permutations, gap
        self.normalise, self.width = normalise, width
        if grid == 2 and permutations > 24:
            raise ValueError(
                f"four tiles have 24 orders, not {permutations}; type pretext.permutations=24 or pretext.grid=3"
            )
        pixels = augment.size or min(shape[1:])
        side = tile_side((pixels, pixels), grid, gap)
        check_encodable(encoder, shape[0], side, "tiles", f"pretext.augment.size={2 * pixels}")
        self.register_buffer("orders", distant_permutations(grid * grid, permutations).clone(), persistent=False)
        self.projector = nn.Sequential(mlp((encoder.dim, width), last="norm"), nn.ReLU())
        self.head = mlp((grid * grid * width, 4 * width, permutations))

    def views(self, batch: Batch, ctx: Context) -> Puzzle:
        x = self.augment(batch.x, ctx.rng)
        tiles = cut_tiles(x, self.grid, tile_side((x.shape[2], x.shape[3]), self.grid), ctx.rng, self.gap)
        label = ctx.rng.randint(self.permutations, len(x))
        return reorder(tiles, self.orders[label]).flatten(0, 1), label

    def forward(self, views: Puzzle, group: str = "main") -> Loss:
        tiles, label = views
        logits, pooled = self.solve(tiles, len(label))
        value, hits = score(logits, label, "cross_entropy")
        return Loss(value, {"accuracy": hits.mean()}, pooled)

    def solve(self, tiles: Float[Tensor, "n c s s"], puzzles: int) -> tuple[Float[Tensor, "b k"], Float[Tensor, "n d"]]:
        """Logits of the orders, and the features of tiles."""
        if self.normalise:
            tiles = normalise_tiles(tiles, self.encoder.mean, self.encoder.std)
        pooled = self.encoder(tiles).pooled
        z = self.projector(pooled).unflatten(0, (-1, puzzles))  # (grid * grid, B, width)
        return self.head(z.transpose(0, 1).flatten(1)), pooled

    def pictures(self, views: Puzzle) -> Mapping[str, Float[Tensor, "b c h w"]]:
        """The tiles as they were shown, and put back as the predicted order says."""
        tiles, label = views
        order = self.orders[self.solve(tiles, len(label))[0].argmax(1)]  # (B, grid * grid)
        shown = tiles.unflatten(0, (-1, len(label)))
        solved = reorder(shown, order.argsort(1))
        return {"puzzle": join_tiles(shown, self.grid), "solution": join_tiles(solved, self.grid)}
