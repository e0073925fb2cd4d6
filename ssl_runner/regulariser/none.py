"""No regulariser."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Loss, Pretext, Regulariser


class Nothing(Regulariser):
    """Adds no term."""

    def __init__(self):
        super().__init__()

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        return {}
