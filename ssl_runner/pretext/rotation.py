"""Unsupervised Representation Learning by Predicting Image Rotations.

Spyros Gidaris, Praveer Singh, Nikos Komodakis. ICLR 2018, arXiv 1803.07728.

Differs: the crop is a random resized one; the paper pads by 4 pixels and crops. The loss may be squared error.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.loss.classification import score


class Rotation(Pretext):
    """Turns each image counter-clockwise by 0, 90, 180 or 270 degrees (classes 0 to 3) and asks the encoder which.

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
        loss: Literal["cross_entropy", "mse"] = "cross_entropy",
    ):
        super().__init__()
        if shape[-1] != shape[-2] and augment.size is None:
            raise ValueError(
                f"rotation by right angles needs square images, these are {shape[-2]} x {shape[-1]} pixels; "
                f"type pretext.augment.size={min(shape[-2:])}"
            )
        if augment.vertical_flip > 0:  # with horizontal flips that is half a turn
            raise ValueError(
                f"augment.vertical_flip={augment.vertical_flip} mixes the classes; type pretext.augment.vertical_flip=0"
            )
        if augment.degrees >= 45:
            raise ValueError(
                f"augment.degrees={augment.degrees} mixes the classes; type pretext.augment.degrees=N below 45"
            )
        self.encoder = encoder
        self.augment = augment
        self.copies = copies
        self.loss = loss
        self.head = nn.Linear(encoder.dim, 4)

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "n c s s"], Int[Tensor, " n"]]:
        x = self.augment(batch.x, ctx.rng)
        if self.copies == "all":
            turns = torch.arange(4, device=x.device).repeat(len(x))
            return torch.stack([x.rot90(k, (2, 3)) for k in range(4)], 1).flatten(0, 1), turns  # (4B, C, S, S)
        turns = torch.randint(4, (len(x),), generator=ctx.rng, device=x.device)
        return geometry.rot90(x, turns), turns

    def forward(self, views: tuple[Float[Tensor, "n c s s"], Int[Tensor, " n"]], group: str = "main") -> Loss:
        x, turns = views
        pooled = self.encoder(x).pooled
        value, hits = score(self.head(pooled), turns, self.loss)  # equations 2 and 3
        return Loss(value, {"accuracy": hits.mean()}, pooled)
