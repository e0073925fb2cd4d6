"""Multi-task prediction of crop, flip and rotation, a head for each task on one encoder.

The rotations: Spyros Gidaris, Praveer Singh, Nikos Komodakis, Unsupervised Representation Learning by Predicting Image
Rotations, ICLR 2018, arXiv 1803.07728. The heads: Carl Doersch, Andrew Zisserman, Multi-task Self-Supervised Visual
Learning, ICCV 2017, arXiv 1708.07860.

Crop, then flip, then rotation: the region is named in the frame of the original image, and nothing is resampled after a
rotation. Flips are left to right only. Four rotations by four flips would be 16 labels for the 8 symmetries of the
square (a half turn is both flips at once), and half the labels would be a coin toss; four by two are 8 distinct images,
so every label can be learnt.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.augment.image.window import cut_regions
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.ranges import NotNegative, Share
from ssl_runner.loss.classification import Score, check_square, check_still, score


class Transformation(Pretext):
    """Crops, flips and turns each image, and predicts all three.

    rotation, flip, crop: weight of each task in the loss; a task of weight 0 is neither done to the image nor asked.
    grid, size, jitter: the regions, as in the crop task.
    Raises ValueError if images are not square, every weight is 0, or augment moves pixels.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, ...],
        augment: Views,
        rotation: NotNegative = 1.0,
        flip: NotNegative = 1.0,
        crop: NotNegative = 1.0,
        grid: Annotated[int, Ge(2)] = 2,
        size: Annotated[float, Interval(gt=0, lt=1)] = 0.6,
        jitter: Share = 0.5,
        loss: Score = "cross_entropy",
    ):
        super().__init__()
        classes = {"rotation": 4, "flip": 2, "crop": grid * grid}
        self.weights = {k: w for k, w in {"rotation": rotation, "flip": flip, "crop": crop}.items() if w > 0}
        if not self.weights:
            raise ValueError("rotation, flip and crop all weigh 0, so nothing is learnt; type pretext.rotation=1")
        if rotation > 0:
            check_square(shape, augment, " or pretext.rotation=0")
        check_still(augment, "hides the transformation that is the label")
        self.encoder, self.augment, self.loss = encoder, augment, loss
        self.rotation, self.flip, self.crop = rotation, flip, crop
        self.grid, self.size, self.jitter = grid, size, jitter
        self.heads = nn.ModuleDict({task: nn.Linear(encoder.dim, classes[task]) for task in self.weights})

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b tasks"]]:
        """The transformed images, and the class of each task, in the order of `weights`."""
        x, rng, targets = batch.x, ctx.rng, {}
        if self.crop > 0:
            x, targets["crop"] = cut_regions(x, self.grid, self.size, self.jitter, self.augment.size, rng)
        x = self.augment(x, rng)
        if self.flip > 0:
            targets["flip"] = rng.randint(2, len(x))
            x = geometry.flip(x, targets["flip"] == 1, None)
        if self.rotation > 0:
            targets["rotation"] = rng.randint(4, len(x))
            x = geometry.rot90(x, targets["rotation"])
        return x, torch.stack([targets[task] for task in self.weights], 1)

    def forward(self, views: tuple[Float[Tensor, "b c h w"], Int[Tensor, "b tasks"]], group: str = "main") -> Loss:
        x, targets = views
        pooled = self.encoder(x).pooled
        scores = {t: score(self.heads[t](pooled), targets[:, i], self.loss) for i, t in enumerate(self.weights)}
        value = torch.stack([weight * scores[task][0] for task, weight in self.weights.items()]).sum()
        metrics = {f"{task}_accuracy": hits.mean() for task, (_, hits) in scores.items()}
        metrics["accuracy"] = torch.stack([hits for _, hits in scores.values()]).amin(0).mean()  # all of them right
        return Loss(value, metrics, pooled)
