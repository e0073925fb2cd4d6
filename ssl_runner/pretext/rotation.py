"""Unsupervised Representation Learning by Predicting Image Rotations.

Spyros Gidaris, Praveer Singh, Nikos Komodakis. ICLR 2018, arXiv 1803.07728.

Differs: the crop is a random resized one; the paper pads by 4 pixels and crops. The loss may be squared error.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder
from ssl_runner.loss.classification import Score, TransformationTask, check_degrees, check_square, check_still


class Rotation(TransformationTask):
    """Turns each image counter-clockwise by 0, 90, 180 or 270 degrees (classes 0 to 3) and predicts which.

    augment comes first: a right angle resamples nothing, but resampling after it would leave traces of the angle.
    copies: "all" shows each image in all four turns (section 3.1), so a step costs 4 x batch_size samples of the
    encoder, and each class is balanced on the same content; "one" draws a turn a sample. Of equal cost are
    batch_size=N copies=all and batch_size=4N copies=one; the former learns faster.
    Raises ValueError if images are not square, or if augment itself turns one class into another.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, ...],
        augment: Views,
        copies: Literal["all", "one"] = "all",
        loss: Score = "cross_entropy",
    ):
        check_square(shape, augment)
        check_still(augment, "mixes the classes", ("vertical_flip",))  # with horizontal flips that is half a turn
        check_degrees(augment, 45)
        super().__init__(encoder, augment, 4, loss)  # equations 2 and 3
        self.copies = copies

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "n c s s"], Int[Tensor, " n"]]:
        x = self.augment(batch.x, ctx.rng)
        if self.copies == "all":
            return all_turns(x)
        turns = ctx.rng.randint(4, len(x))
        return geometry.rot90(x, turns), turns


def all_turns(x: Float[Tensor, "b c s s"]) -> tuple[Float[Tensor, "n c s s"], Int[Tensor, " n"]]:
    """Images turned by 0, 90, 180 and 270 degrees, one turn of all after another, and the class of each; n is 4 b."""
    return torch.cat([x.rot90(k, (2, 3)) for k in range(4)]), torch.arange(4, device=x.device).repeat_interleave(len(x))
