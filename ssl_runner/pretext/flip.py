"""Flip prediction, after Unsupervised Representation Learning by Predicting Image Rotations.

Spyros Gidaris, Praveer Singh, Nikos Komodakis. ICLR 2018, arXiv 1803.07728.

Differs: flips instead of rotations; they resample nothing either, and so leave no low-level traces (section 2.2). Left
and right are alike in most photographs, so a network learns vertical flips and hardly horizontal ones: expect an
accuracy of about 50 %.
"""

from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image import geometry
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder
from ssl_runner.loss.classification import Score, TransformationTask, check_degrees, check_still


class Flip(TransformationTask):
    """Flips each image not at all, left to right, top to bottom, or both (classes 0 to 3) and predicts which.

    Raises ValueError if augment itself turns one class into another.
    """

    def __init__(self, *, encoder: Encoder, augment: Views, loss: Score = "cross_entropy"):
        check_still(augment, "undoes flips that are labels", ("flip", "vertical_flip"))
        check_degrees(augment, 90)  # both flips are half a turn
        super().__init__(encoder, augment, 4, loss)

    def views(self, batch: Batch, ctx: Context) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]:
        x = self.augment(batch.x, ctx.rng)
        kind = ctx.rng.randint(4, len(x))
        return geometry.flip(x, kind % 2 == 1, kind >= 2), kind
