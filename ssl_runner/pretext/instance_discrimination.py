"""Unsupervised Feature Learning via Non-Parametric Instance Discrimination.

Zhirong Wu, Yuanjun Xiong, Stella X. Yu, Dahua Lin. CVPR 2018, arXiv 1805.01978.

Differs: the softmax is over all rows, as the authors have it on CIFAR-10, and not estimated from a sample of them
(noise-contrastive estimation, which they have on ImageNet). There is no proximal term, as in their code. The bank
begins with what the untrained network makes of the samples, and not at random.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.bank import Bank
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.instance import own_row


class InstanceDiscrimination(Pretext):
    """Identifies a sample among all of the training set by a memory bank, which has a running mean of each embedding.

    `momentum` is the share of itself that a row of the bank keeps when its sample is learnt from. `out` is the width of
    the embedding. A step costs `rows` * `out` multiplications a sample beside the encoder, and the bank 4 * `rows` *
    `out` bytes. A row moves once an epoch, and is what the untrained network made of its sample before.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        rows: int,
        temperature: Positive = 0.1,
        momentum: Share = 0.5,
        out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.temperature, self.momentum, self.out = temperature, momentum, out
        self.projector = mlp((encoder.dim, out))
        self.bank = Bank(rows, out, momentum)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """A view of each sample, and its row in the training set."""
        return self.augment(batch.x, ctx.rng), batch.index

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, index = views
        f = self.embed(x)
        value, nearest = own_row(f, self.bank.rows, index, self.temperature)
        own = F.cosine_similarity(f.detach().float(), self.bank.rows[index], dim=1).mean()
        metrics = {"accuracy": nearest.float().mean(), "similarity": own}
        return Loss(value, metrics, f, {"embedding": f.detach(), "index": index})

    def embed(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x).pooled)  # (B, out)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0:
            self.bank.fill(self.embed, ctx.sweep())

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.bank.update(kept["embedding"], kept["index"])

    def suspects(self) -> Sequence[Suspect]:
        if self.momentum == 1:
            cause = "pretext.momentum=1, the rows of the bank stay what the untrained network made"
            return [Suspect(cause, "pretext.momentum=0.5", 0.9)]
        if not 0.02 <= self.temperature <= 1.5:
            side = "high, near and far rows are pushed alike" if self.temperature > 1 else "low, one row has it all"
            cause = f"pretext.temperature={self.temperature:g} is too {side}"
            return [Suspect(cause, "pretext.temperature=0.1", 0.6)]
        return []
