"""SimCSE: Simple Contrastive Learning of Sentence Embeddings; the unsupervised one.

Tianyu Gao, Xingcheng Yao, Danqi Chen. EMNLP 2021, arXiv 2104.08821.

Differs: sentences may be given in two views as well, tokens deleted from each (the paper's table 1, where it is worse
than dropout alone, after BERT; from scratch it is better). The head has two layers and not one.
Negatives are the other texts of the same micro-batch, on all ranks.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ssl_runner.augment.recipe import Recipe
from ssl_runner.augment.text.trim import width_of
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.info_nce import extreme_temperature, in_batch


class SimCSE(Pretext):
    """Identifies a text, encoded again with other dropout, among the texts of the batch.

    temperature: of the cosines. hidden, out: widths of the head, which is thrown away, as in section 6.3.
    """

    kinds = ("text",)

    def __init__(
        self, *, encoder: Encoder, augment: Recipe, temperature: Positive = 0.05, hidden: Count = 128, out: Count = 128
    ):
        super().__init__()
        self.encoder, self.augment = encoder, augment
        self.temperature, self.hidden, self.out = temperature, hidden, out
        self.projector = mlp((encoder.dim, hidden, out), norm=False, activation=nn.Tanh)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """The ids twice; dropout, which makes them two views, is drawn in forward for each row by itself."""
        views = [self.augment(batch.x, ctx.rng) for _ in range(2)]
        width = max(map(width_of, views))
        return tuple(view[:, :width] for view in views)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        h = self.encoder(torch.cat(views)).pooled  # (2B, dim)
        first, second = self.projector(h).chunk(2)  # (B, out) each
        value, nearest = in_batch(first, second, self.temperature)  # equation 4
        return Loss(value, {"accuracy": nearest.float().mean()}, torch.cat([first, second]))

    def suspects(self) -> Sequence[Suspect]:
        suspects = list(extreme_temperature(self.temperature, usual=0.05))
        rates = [each.p for each in self.encoder.modules() if isinstance(each, nn.Dropout)]
        changes = [getattr(self.augment, each, 0) for each in ("deletion", "span_deletion", "shuffle", "word_dropout")]
        if not any(rates) and not any(changes):
            cause = "model.dropout=0, and nothing is deleted: the two views are the same"
            suspects.append(Suspect(cause, "model.dropout=0.1", 0.9))
        return suspects
