"""Regularisers on the embedding of a batch, which measure each of its views alone."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.gather import gather
from ssl_runner.layers.ranges import Count, NotNegative


class EmbeddingTerm(Regulariser):
    """`weight` times a cost of the embedding, the mean over its views. A subclass is one `cost` and its name.

    The embedding is (V B, D): V views of B samples, view after view as torch.cat leaves them. Each view is measured
    alone, in float32 and with the rows of all ranks, since the rows of one sample are meant to meet.

    views: V; None: as many as the task embeds.
    """

    name: ClassVar[str]

    def __init__(self, weight: NotNegative, views: Count | None):
        super().__init__()
        self.weight = weight
        self.views = views

    def cost(self, z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        raise NotImplementedError(f"{type(self).__name__}.cost")

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        """Raises ValueError if the method has no embedding, rows of no whole views, or fewer than two a view."""
        if loss.embedding is None:
            raise ValueError(
                f"regulariser {self.name} reads the embedding of the samples, and this pretext has none; use a pretext "
                "that has one, as simclr or byol, or a regulariser on weights: l1, l2, elastic_net, orthogonal"
            )
        count = self.count(len(loss.embedding), loss.samples)
        views = torch.tensor_split(loss.embedding.float(), count)  # (B, D) each
        return {self.name: self.weight * torch.stack([self.cost(gather(view)) for view in views]).mean()}

    def count(self, rows: int, samples: int | None) -> int:
        """How many views are in the rows. Raises ValueError."""
        if self.views is not None:
            count = self.views
        elif samples and rows % samples == 0:
            count = rows // samples
        else:
            raise ValueError(
                f"regulariser {self.name} measures each view alone, and {rows} rows are no whole number of views of "
                f"{samples} samples; type regulariser.views=N, how many the method embeds, view after view"
            )
        if rows < 2 * count:
            raise ValueError(
                f"regulariser {self.name} needs two rows a view, and {count} views share {rows} rows; "
                "type a larger batch_size, or a smaller accumulate"
            )
        return count


def unit(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length 1. A row of (almost) no length has no direction: it stays as it is, and its gradient stays small,
    since a division by a tiny length would make it enormous."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)  # (n, 1); its gradient at zero is zero
    return z / length.where(length > 1e-6, 1.0)
