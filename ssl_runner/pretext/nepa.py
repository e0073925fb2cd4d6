"""Next-Embedding Prediction Makes Strong Vision Learners (NEPA).

Sihan Xu, Ziqiao Ma, Wenhao Chai, Xuweiyi Chen, Weiyang Jin, Joyce Chai, Saining Xie, Stella X. Yu. 2025,
arXiv 2512.16922.

Differs: positions are those of the encoder, which are added behind the embedding and are no part of the target, and not
rotary ones. There is no class token, from which the authors predict the first patch. The encoder is measured as it is,
and attends to all patches then; the authors keep a moving average.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.causal import causal_pairs, require_causal
from ssl_runner.layers.image_encoder import patch_grid


class NEPA(Pretext):
    """Predicts the embedding of each patch, as the encoder's first layer makes it, from the patches before it.

    stop_gradient: whether embeddings get no gradient as targets. Without it they become alike, and the loss is nothing.
    Raises ValueError for an encoder that cannot hide tokens from each other, that has a class token, or whose tokens
    are no patches.
    """

    causal: Tensor  # (n, n)

    def __init__(self, *, encoder: Encoder, shape: tuple[int, int, int], augment: Views, stop_gradient: bool = True):
        super().__init__()
        require_causal(encoder)
        self.encoder, self.augment, self.stop_gradient = encoder, augment, stop_gradient
        (rows, columns), _ = patch_grid(encoder, shape, augment.size)
        self.register_buffer("causal", causal_pairs(rows * columns), persistent=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return (self.augment(batch.x, ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.encoder.embed(views[0])  # (B, n, d)
        features = self.encoder.encode(z, visible=self.causal)
        target = (z.detach() if self.stop_gradient else z)[:, 1:].float()
        similarity = F.cosine_similarity(features.tokens[:, :-1].float(), target, dim=2)
        # Of each number of a unit vector over samples, 1 if they are uniform, and 0 if all embeddings are alike.
        spread = F.normalize(target.detach(), dim=2).std(dim=0).mean() * target.shape[2] ** 0.5
        return Loss(-similarity.mean(), {"spread": spread}, features.pooled)

    def suspects(self) -> Sequence[Suspect]:
        if not self.stop_gradient:
            cause = "pretext.stop_gradient=false, embeddings become alike so that they are easy to predict"
            return [Suspect(cause, "pretext.stop_gradient=true", 0.9)]
        return []
