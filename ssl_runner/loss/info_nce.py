"""InfoNCE: cross-entropy of the positive among negatives, by cosine similarity over a temperature.

Float32 also under autocast: at temperature 0.1 a logit of 10 is off by up to 0.03 in bfloat16.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.layers.gather import first_row, gather

Scores = tuple[Float[Tensor, ""], Bool[Tensor, " b"]]  # the mean loss; whether each positive is the nearest of all


def nt_xent(z: Float[Tensor, "n d"], temperature: float) -> Scores:
    """Equation 1 of SimCLR (arXiv 2002.05709), averaged over all 2B rows as anchors.

    `z` holds B first views, then their B second views; lengths do not matter. The negatives of an anchor are the other
    rows of all ranks. The loss is log(2B - 1) if all rows are equal, and 0 for a batch of one, which has no negatives.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z.float(), dim=1)
        everyone, first = gather(z), first_row(z)  # (2B * ranks, d)
        itself = torch.arange(first, first + len(z), device=z.device)
        logits = (z @ everyone.T / temperature).scatter(1, itself[:, None], -torch.inf)  # the indicator k != i
        return scores(logits, itself.roll(len(z) // 2))


def info_nce(
    query: Float[Tensor, "b d"], positive: Float[Tensor, "b d"], negatives: Float[Tensor, "n d"], temperature: float
) -> Scores:
    """Equation 1 of MoCo (arXiv 1911.05722): each query has one positive, and all have the same negatives.

    All rows are of unit length. The loss is log(1 + n) if all are equal.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, positive = query.float(), positive.float()
        own = (query * positive).sum(dim=1, keepdim=True)  # (B, 1)
        logits = torch.cat([own, query @ negatives.T], dim=1) / temperature  # (B, 1 + n)
        return scores(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def scores(logits: Float[Tensor, "b n"], positive: Int[Tensor, " b"]) -> Scores:
    return F.cross_entropy(logits, positive), logits.argmax(dim=1) == positive
