"""LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics.

Randall Balestriero, Yann LeCun. 2025, arXiv 2511.08544.

Differs: the defaults suit small images and short runs (4 views of one size and no local ones, a projector of width 512
that ends in 64). The statistic is of the samples of a micro-batch, on all ranks; it is integrated on half of its
symmetric range, as in the authors' minimal example. The regulariser is the mean over views of each view's statistic.
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Suspect
from ssl_runner.layers.ranges import Count, Natural, Share
from ssl_runner.loss.sliced import epps_pulley
from ssl_runner.loss.view_prediction import Terms, ViewPrediction


class LeJEPA(ViewPrediction):
    """Predicts the mean embedding of a sample's global views from each view, and keeps all embeddings Gaussian.

    The regulariser SIGReg keeps embeddings from collapsing, without a teacher, a predictor or stopped gradients. It
    compares their projections onto random directions, drawn afresh at each step, with the standard normal distribution.

    augment: the global views. augment_local: the local ones; of half the side of the global ones if its size is null.
    weight: lambda, the share of SIGReg in the loss; the prediction has the rest. slices: random directions.
    hidden, out: widths of the projector, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_local: Views,
        global_views: Annotated[int, Ge(1)] = 4,
        local_views: Natural = 0,
        weight: Share = 0.05,
        slices: Count = 256,
        hidden: Count = 512,
        out: Count = 64,
    ):
        sizes = {"global_views": global_views, "local_views": local_views, "hidden": hidden, "out": out}
        super().__init__(encoder, shape, augment, augment_local, weight=weight, slices=slices, **sizes)

    def regularise(self, z: Float[Tensor, "v n d"]) -> Terms:
        value = epps_pulley(self.directions(z)).mean()
        return value, {"sigreg": value.detach()}

    def suspects(self) -> Sequence[Suspect]:
        if self.weight < 0.002:
            cause = f"pretext.weight={self.weight:g}, hardly anything keeps the embeddings of samples apart"
            return [Suspect(cause, "pretext.weight=0.05", 1.0 if self.weight == 0 else 0.7)]
        return []
