"""EMP-SSL: Towards Self-Supervised Learning in One Training Epoch.

Shengbang Tong, Yubei Chen, Yi Ma, Yann LeCun. 2023, arXiv 2304.03977.

Differs: the defaults suit small images and short runs (8 patches of half the image and not 20 of a quarter, a projector
of width 512 that ends in 128). What is measured and saved is the encoder, of one view, and not the mean over many
patches of the projector's first hidden layer. The coding rate is of the samples of a micro-batch, on all ranks.
"""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather_views
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.loss.coding import coding_rate


class EMPSSL(Pretext):
    """Brings many patches of an image to their mean embedding, and spreads those of each patch by their coding rate.

    augment: the patches, crops of one fixed share of the image. patches: how many of each image.
    invariance: lambda, the weight of the cosine between a patch's embedding and the mean of its image.
    epsilon: the precision of the coding rate; the smaller, the wider embeddings are spread.
    hidden, out: widths of the projector, which is thrown away.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        patches: Annotated[int, Ge(2)] = 8,
        invariance: NotNegative = 200.0,
        epsilon: Positive = 0.2,
        hidden: Count = 512,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.patches = encoder, augment, patches
        self.invariance, self.epsilon, self.hidden, self.out = invariance, epsilon, hidden, out
        self.projector = mlp((encoder.dim, hidden, hidden, out))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """(patches * B, C, H, W), patch after patch."""
        return (self.augment(batch.x.repeat(self.patches, 1, 1, 1), ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        z = self.projector(self.encoder(views[0]).pooled).float()  # (n B, out)
        unit = F.normalize(gather_views(z, self.patches), dim=2)  # (n, N, out)
        similarity = F.cosine_similarity(unit, unit.mean(dim=0, keepdim=True), dim=2).mean()
        rate = coding_rate(unit, self.epsilon).mean()
        metrics = {"similarity": similarity.detach(), "coding_rate": rate.detach()}
        return Loss(-self.invariance * similarity - rate, metrics, z)

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.invariance > 2000:
            cause = f"pretext.invariance={self.invariance:g} leaves the coding rate without weight"
            suspects.append(Suspect(cause, "pretext.invariance=200", 0.7))
        if self.epsilon > 5:
            cause = f"pretext.epsilon={self.epsilon:g} is so coarse that spread embeddings hardly gain anything"
            suspects.append(Suspect(cause, "pretext.epsilon=0.2", 0.6))
        return suspects
