"""Memory bank: a running mean of the embedding of each training row.

Zhirong Wu, Yuanjun Xiong, Stella X. Yu, Dahua Lin, "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018, arXiv 1805.01978.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Bank(nn.Module):
    """Holds a unit vector for each of `count` training rows; until it is updated, a random one of length 0.01.

    So short, a row that was never met repels no sample, and its first embedding takes its place.
    momentum: share of itself that a row keeps when it is updated, in [0, 1]. The buffer takes 4 * count * dim bytes, on
    the device and in each checkpoint. A run that goes on with another number of rows begins with random ones again.
    """

    rows: Tensor  # (count, dim)

    def __init__(self, count: int, dim: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", F.normalize(torch.randn(count, dim), dim=1) / 100)

    @torch.no_grad()
    def update(self, z: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        """Moves rows towards their embeddings, and to unit length again. Call it in after_step, after the loss.

        Of a row that is there more than once the last embedding counts.
        """
        place = torch.arange(len(index), device=index.device)
        last = (index[:, None] == index).mul(place).amax(dim=1)  # (B,) where each one's row comes last
        mean = self.rows[index] * self.momentum + F.normalize(z[last].float(), dim=1) * (1 - self.momentum)
        self.rows.index_copy_(0, index, F.normalize(mean, dim=1))  # written twice, a row gets the same twice

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if state_dict.get(f"{prefix}rows", self.rows).shape != self.rows.shape:
            state_dict[f"{prefix}rows"] = self.rows
        super()._load_from_state_dict(state_dict, prefix, *rest)
