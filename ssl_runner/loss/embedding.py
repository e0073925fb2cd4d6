"""The embedding of a batch, cut into its views: what regularisers on representations read."""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss
from ssl_runner.layers.gather import gather


def branches(loss: Loss, views: int, reader: str) -> list[Float[Tensor, "n d"]]:
    """The embedding in float32, a tensor a view, with the rows of all ranks.

    (B', D) is B' = views * B rows of D numbers, view after view as torch.cat leaves them; each piece is (B, D). A term
    measures each view alone, since the rows of one sample are meant to meet. If a method embeds a single view, `views`
    of 2 measures two halves of the batch. Raises ValueError if the method has no embedding, or fewer than two rows a
    view; `reader` names the term in it.
    """
    if loss.embedding is None:
        raise ValueError(
            f"regulariser {reader} reads the embedding of the samples, and this pretext has none; use a pretext that "
            "has one, as simclr or byol, or a regulariser on weights: l1, l2, elastic_net, orthogonal"
        )
    rows = len(loss.embedding)
    if rows < 2 * views:
        raise ValueError(
            f"regulariser {reader} needs two rows a view, and {views} views share {rows} rows; "
            "use a larger batch_size, a smaller accumulate, or views=1 if the method embeds one view"
        )
    return [gather(view) for view in torch.tensor_split(loss.embedding.float(), views)]
