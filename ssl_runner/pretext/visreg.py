"""VISReg: Variance-Invariance-Sketching Regularization for JEPA training.

Haiyu Wu, Randall Balestriero, Morgan Levine. 2026, arXiv 2606.02572.

Differs: the defaults suit small images and short runs (4 views of one size and no local ones, a projector of width 512
that ends in 64, half of the loss for the regulariser and not 0.9). The projector has ReLU and not GELU. The regulariser
is of the samples of a micro-batch, on all ranks.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Suspect
from ssl_runner.layers.ranges import Count, Natural, NotNegative, Share
from ssl_runner.loss.sliced import wasserstein
from ssl_runner.loss.view_prediction import Terms, ViewPrediction


class VISReg(ViewPrediction):
    """Predicts the mean embedding of a sample's global views from each view, and regularises embeddings in three parts.

    As LeJEPA, with another regulariser: each dimension has a standard deviation of 1 and a mean of 0, and what
    is standardised so has normal projections onto random directions. Its gradient does not vanish near a collapse.

    augment: the global views. augment_local: the local ones; of half the side of the global ones if its size is null.
    weight: lambda, the share of the regulariser in the loss; the prediction has the rest. slices: random directions.
    scale_weight, shape_weight, centre_weight: the weights of its parts.
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
        weight: Share = 0.5,
        scale_weight: NotNegative = 1.0,
        shape_weight: NotNegative = 1.0,
        centre_weight: NotNegative = 1.0,
        slices: Count = 256,
        hidden: Count = 512,
        out: Count = 64,
    ):
        sizes = {"global_views": global_views, "local_views": local_views, "hidden": hidden, "out": out}
        super().__init__(encoder, shape, augment, augment_local, weight=weight, slices=slices, **sizes)
        self.scale_weight, self.shape_weight, self.centre_weight = scale_weight, shape_weight, centre_weight

    def regularise(self, z: Float[Tensor, "v n d"]) -> Terms:
        mean = z.mean(dim=1, keepdim=True)  # (V, 1, out)
        std = torch.linalg.vector_norm(z - mean, dim=1, keepdim=True) / z.shape[1] ** 0.5
        scale, centre = (1 - std).square().mean(), mean.square().mean()
        # The standard deviation has no gradient here: the shape must not be mended by stretching it.
        shape = wasserstein(self.directions((z - mean) / std.detach().clamp(min=1e-6))).mean()
        value = self.scale_weight * scale + self.shape_weight * shape + self.centre_weight * centre
        return value, {"scale": scale.detach(), "shape": shape.detach(), "centre": centre.detach()}

    def suspects(self) -> Sequence[Suspect]:
        if self.weight < 0.01 or self.scale_weight < 0.01:
            key, usual = ("weight", 0.5) if self.weight < 0.01 else ("scale_weight", 1)
            cause = f"pretext.{key}={getattr(self, key):g}, hardly anything keeps the embeddings of samples apart"
            return [Suspect(cause, f"pretext.{key}={usual}", 0.9)]
        return []
