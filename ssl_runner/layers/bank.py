"""Memory bank: a running mean of the embedding of each training row.

Zhirong Wu, Yuanjun Xiong, Stella X. Yu, Dahua Lin, "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018, arXiv 1805.01978.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Batch


class Bank(nn.Module):
    """Holds a unit vector for each of `count` training rows, random ones until it is filled.

    momentum: share of itself that a row keeps when it is updated, in [0, 1]. The buffer takes 4 * count * dim bytes, on
    the device and in each checkpoint. A run that goes on with another number of rows begins with random ones again.
    """

    rows: Tensor  # (count, dim)

    def __init__(self, count: int, dim: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", F.normalize(torch.randn(count, dim), dim=1))

    @torch.no_grad()
    def update(self, z: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        """Moves rows towards their embeddings, and to unit length again. Call it in after_step, after the loss.

        Of a row that is there more than once the last embedding counts.
        """
        place = torch.arange(len(index), device=index.device)
        last = (index[:, None] == index).mul(place).amax(dim=1)  # (B,) where each one's row comes last
        mean = self.rows[index] * self.momentum + F.normalize(z[last].float(), dim=1) * (1 - self.momentum)
        self.rows.index_copy_(0, index, F.normalize(mean, dim=1))  # written twice, a row gets the same twice

    @torch.no_grad()
    def fill(self, embed: Callable[[Tensor], Tensor], sweep: Iterable[Batch]) -> None:
        """Puts the embeddings of a sweep in the place of the random rows. Call it in before_step, at step 0.

        Without it the first epoch teaches random directions, one a sample, and a short run ends below a random encoder.
        """
        for x, index in sweep:
            self.rows.index_copy_(0, index, F.normalize(embed(x).float(), dim=1))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if state_dict.get(f"{prefix}rows", self.rows).shape != self.rows.shape:
            state_dict[f"{prefix}rows"] = self.rows
        super()._load_from_state_dict(state_dict, prefix, *rest)
