"""Prediction of the mean embedding of a sample's global views from each of its views, beside a regulariser.

What LeJEPA (arXiv 2511.08544) and VISReg (arXiv 2606.02572) have in common.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.multi_crop import local_recipe, multi_crop
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext
from ssl_runner.layers.gather import gather_views
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import check_local_views
from ssl_runner.loss.sliced import Directions

Terms = tuple[Float[Tensor, ""], Mapping[str, Tensor]]  # a regulariser's value; what of it is logged


class ViewPrediction(Pretext):
    """A subclass is a `regularise` of embeddings by view, with whatever projects them onto random directions.

    Raises ValueError if a sample has a single view, or the encoder cannot encode local views.
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_local: Views,
        *,
        global_views: int,
        local_views: int,
        weight: float,
        slices: int,
        hidden: int,
        out: int,
    ):
        super().__init__()
        if global_views + local_views < 2:
            raise ValueError("a single view has no other to predict; type pretext.global_views=2 or more")
        self.encoder, self.augment = encoder, augment
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.global_views, self.local_views, self.weight = global_views, local_views, weight
        self.slices, self.hidden, self.out = slices, hidden, out
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        self.projector = mlp((encoder.dim, hidden, hidden, out))
        self.directions = Directions(slices, out)

    def regularise(self, z: Float[Tensor, "v n d"]) -> Terms:
        raise NotImplementedError(f"{type(self).__name__}.regularise")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Global views (global_views * B, C, H, W) and local ones (local_views * B, C, h, w), view after view."""
        recipes = (self.augment,) * self.global_views
        return multi_crop(batch.x, ctx.rng, recipes, self.augment_local, self.local_views)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(torch.cat([self.encoder(view).pooled for view in views])).float()  # (V B, out)
        by_view = gather_views(z, self.global_views + self.local_views)  # (V, N, out)
        centre = by_view[: self.global_views].mean(dim=0)
        prediction = (by_view - centre).square().mean()
        value, metrics = self.regularise(by_view)
        spread = by_view.detach().std(dim=1, correction=0).mean()  # 1: as wide as the normal distribution; 0: collapsed
        metrics = {"prediction": prediction.detach(), "spread": spread} | metrics
        return Loss((1 - self.weight) * prediction + self.weight * value, metrics, z)

    def before_step(self, ctx: Context) -> None:
        self.directions.draw(ctx.rng)
