"""Flip prediction, after Unsupervised Representation Learning by Predicting Image Rotations.

Spyros Gidaris, Praveer Singh, Nikos Komodakis. ICLR 2018, arXiv 1803.07728.

Differs: flips instead of rotations; they resample nothing either, and so leave no low-level traces (section 2.2). Left
and right are alike in most photographs, so a network learns vertical flips and hardly horizontal ones: expect an
accuracy of about 50 %.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.loss.classification import score


class Flip(Pretext):
    """Flips each image not at all, left to right, top to bottom, or both (classes 0 to 3) and asks the encoder which.

    Raises ValueError if augment itself turns one class into another.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        loss: Literal["cross_entropy", "mse"] = "cross_entropy",
    ):
        super().__init__()
        for key in ("flip", "vertical_flip"):
            if getattr(augment, key) > 0:
                raise ValueError(
                    f"augment.{key}={getattr(augment, key)} undoes flips that are labels; type pretext.augment.{key}=0"
                )
        if augment.degrees >= 90:  # both flips are half a turn
            raise ValueError(
                f"augment.degrees={augment.degrees} mixes the classes; type pretext.augment.degrees=N below 90"
            )
        self.encoder = encoder
        self.augment = augment
        self.loss = loss
        self.head = nn.Linear(encoder.dim, 4)

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]:
        x = self.augment(batch.x, ctx.rng)
        kind = torch.randint(4, (len(x),), generator=ctx.rng, device=x.device)
        return geometry.flip(x, kind % 2 == 1, kind >= 2), kind

    def forward(self, views: tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]], group: str = "main") -> Loss:
        x, kind = views
        pooled = self.encoder(x).pooled
        value, hits = score(self.head(pooled), kind, self.loss)
        return Loss(value, {"accuracy": hits.mean()}, pooled)
