"""Non-parametric softmax: cross-entropy of a sample's own row of a memory bank among all of its rows."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.loss.info_nce import Scores, scores


def own_row(
    z: Float[Tensor, "b d"], rows: Float[Tensor, "n d"], index: Int[Tensor, " b"], temperature: float
) -> Scores:
    """Instance discrimination (arXiv 1805.01978): each training row is a class, and a weight vector.

    rows: of unit length; those of z, of any length, are brought to it. index: the own row of each.
    The mean loss, which is log(n) if all rows are equal; and whether the own row is the nearest of all.
    """
    with torch.autocast(z.device.type, enabled=False):
        return scores(F.normalize(z.float(), dim=1) @ rows.T / temperature, index)
