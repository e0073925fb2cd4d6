"""InfoNCE: cross-entropy of the positive among negatives, by cosine similarity over a temperature.

Float32 also under autocast: at temperature 0.1 a logit of 10 is off by up to 0.03 in bfloat16.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Suspect
from ssl_runner.layers.gather import first_row, gather

Scores = tuple[Float[Tensor, ""], Bool[Tensor, " b"]]  # the mean loss; whether each positive is the nearest of all


def nt_xent(z: Float[Tensor, "n d"], temperature: float) -> Scores:
    """Equation 1 of SimCLR (arXiv 2002.05709), averaged over all 2B rows as anchors.

    `z` holds B first views, then their B second views; lengths do not matter. The negatives of an anchor are the other
    rows of all ranks. The loss is log(2B - 1) if all rows are equal, and 0 for a batch of one, which has no negatives.
    """
    with torch.autocast(z.device.type, enabled=False):
        return scores(*pair_logits(z, temperature))


def decoupled(z: Float[Tensor, "n d"], temperature: float, weight_temperature: float | None = None) -> Scores:
    """Decoupled contrastive learning (arXiv 2110.06848): `nt_xent` with the positive left out of the denominator.

    With `weight_temperature` s the positive's similarity c_i counts w_i = 2 - exp(c_i / s) / mean exp(c / s) times, of
    which the mean over all ranks is 1, and which has no gradient: pairs that are far apart count more.
    The loss has no lower bound; it is log(2B - 2) if all rows are equal, and minus infinity for a batch of one.
    """
    with torch.autocast(z.device.type, enabled=False):
        logits, positive = pair_logits(z, temperature)
        own = logits.gather(1, positive[:, None])  # (2B, 1)
        negatives = logits.scatter(1, positive[:, None], -torch.inf).logsumexp(dim=1)  # (2B,)
        weight = torch.ones_like(negatives)
        if weight_temperature is not None:
            everyone = gather(own.detach() * (temperature / weight_temperature))[:, 0]  # (2B * ranks,)
            share = everyone.softmax(dim=0)[first_row(own) : first_row(own) + len(own)]
            weight = 2 - len(everyone) * share
        return (negatives - weight * own[:, 0]).mean(), logits.argmax(dim=1) == positive


def pair_logits(z: Float[Tensor, "n d"], temperature: float) -> tuple[Float[Tensor, "n m"], Int[Tensor, " n"]]:
    """Similarities of 2B rows to those of all ranks, minus infinity to themselves, and where their other views are."""
    z = F.normalize(z.float(), dim=1)
    everyone, first = gather(z), first_row(z)  # (2B * ranks, d)
    itself = torch.arange(first, first + len(z), device=z.device)
    logits = (z @ everyone.T / temperature).scatter(1, itself[:, None], -torch.inf)  # the indicator k != i
    return logits, itself.roll(len(z) // 2)


def in_batch(query: Float[Tensor, "b d"], key: Float[Tensor, "b d"], temperature: float) -> Scores:
    """Each query's own key among the keys of all ranks, as in MoCo v3 (arXiv 2104.02057); lengths do not matter.

    The loss is log(B) if all keys are equal, B being that of all ranks.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, keys = F.normalize(query.float(), dim=1), gather(F.normalize(key.float(), dim=1))
        first = first_row(query)
        own = torch.arange(first, first + len(query), device=query.device)
        return scores(query @ keys.T / temperature, own)


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


def extreme_temperature(temperature: float, usual: float) -> Sequence[Suspect]:
    """What a temperature far from its usual value does to contrastive learning."""
    if temperature > 1.5:
        cause = f"pretext.temperature={temperature:g} is too high, near and far samples are pushed alike"
        weight = min(0.95, 0.5 + 0.25 * math.log10(temperature))
        return [Suspect(cause, f"pretext.temperature={usual:g}", weight)]
    if temperature < 0.02:
        cause = f"pretext.temperature={temperature:g} is too low, one negative has all the gradient"
        return [Suspect(cause, f"pretext.temperature={usual:g}", 0.5)]
    return []
