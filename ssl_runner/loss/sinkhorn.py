"""Sinkhorn-Knopp: soft assignments of rows to prototypes that give every prototype the same share.

Marco Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS 2013, arXiv 1306.0895; for
prototypes as in SwAV, arXiv 2006.09882. By logarithms: the exponential of a cosine over 0.05 can overflow float16.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssl_runner.layers.gather import gather

UNCOUNTED = -60.0  # the logarithm of next to nothing, finite so that rows none of which counts can be assigned


@torch.no_grad()
def sinkhorn(
    logits: Float[Tensor, "b *place k"],
    iterations: int,
    others: Float[Tensor, "n *place k"] | None = None,
    weight: Float[Tensor, ""] | None = None,
    counted: Bool[Tensor, "b *place"] | None = None,
) -> Float[Tensor, "b *place k"]:
    """Probabilities of each row, proportional to exp(logits) times a factor of the column; each place by itself.

    Each of `iterations` (1 or more) gives columns the same sum, and then rows; so rows sum to 1, and columns nearly to
    the same. The rows of all ranks are assigned together, and `others` with them, which are the same on every rank.
    weight: how much each of the others counts, in [0, 1], while a row counts 1; None: as much.
    counted: which rows have a say in the columns' sums; all if none has.
    """
    with torch.autocast(logits.device.type, enabled=False):
        own = logits.float()
        rows = gather(own)
        mass = rows.new_zeros(rows.shape[:-1])  # logarithm of what each row counts
        if counted is not None:
            mass = gather(own.new_zeros(counted.shape).masked_fill(~counted, UNCOUNTED))
        if others is not None:
            rows = torch.cat([rows, others.float()])
            counted = mass.new_zeros(()) if weight is None else weight.log().to(mass.dtype)
            mass = torch.cat([mass, counted.expand(others.shape[:-1])])
        factor = mass
        for _ in range(iterations):
            columns = -(rows + factor[..., None]).logsumexp(dim=0)  # (*place, k)
            factor = mass - (rows + columns).logsumexp(dim=-1)
        return (own + columns).softmax(dim=-1)


def perplexity(probabilities: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """How many prototypes are in even use, in [1, k]: exp of the entropy of the mean row; 1 if one has all rows."""
    return torch.special.entr(probabilities.detach().float().mean(dim=0)).sum().exp()
