"""Sinkhorn-Knopp: soft assignments of rows to prototypes that give every prototype the same share.

Marco Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS 2013, arXiv 1306.0895; for
prototypes as in SwAV, arXiv 2006.09882. By logarithms: the exponential of a cosine over 0.05 can overflow float16.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.layers.gather import gather


@torch.no_grad()
def sinkhorn(
    logits: Float[Tensor, "b k"],
    iterations: int,
    others: Float[Tensor, "n k"] | None = None,
    weight: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "b k"]:
    """Probabilities of each row, proportional to exp(logits) times a factor of the column.

    Each of `iterations` (1 or more) gives columns the same sum, and then rows; so rows sum to 1, and columns nearly to
    the same. The rows of all ranks are assigned together, and `others` with them, which are the same on every rank.
    weight: how much each of the others counts, in [0, 1], while a row counts 1; None: as much.
    """
    with torch.autocast(logits.device.type, enabled=False):
        own = logits.float()
        rows = gather(own)
        mass = rows.new_zeros(len(rows))  # logarithm of what each row counts
        if others is not None:
            rows = torch.cat([rows, others.float()])
            counted = mass.new_zeros(()) if weight is None else weight.log().to(mass.dtype)
            mass = torch.cat([mass, counted.expand(len(others))])
        factor = mass
        for _ in range(iterations):
            columns = -(rows + factor[:, None]).logsumexp(dim=0)  # (k,)
            factor = mass - (rows + columns).logsumexp(dim=1)
        return (own + columns).softmax(dim=1)


def perplexity(probabilities: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """How many prototypes are in even use, in [1, k]: exp of the entropy of the mean row; 1 if one has all rows."""
    return torch.special.entr(probabilities.detach().float().mean(dim=0)).sum().exp()
