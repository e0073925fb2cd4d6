"""Objective of a step: the pretext task's loss and the regulariser's terms, as one module that a strategy can wrap."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.contract import Pretext, Regulariser
from ssl_runner.device.placement import Placement


class Score(NamedTuple):
    total: Float[Tensor, ""]  # with its graph
    loss: Float[Tensor, ""]  # the pretext task's own, and what follows: without a graph
    metrics: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]


class Objective(nn.Module):
    """Views to a loss under autocast. The group `main` is regularised, in float32."""

    def __init__(self, pretext: Pretext, regulariser: Regulariser, main: str, device: Placement):
        super().__init__()
        self.pretext, self.regulariser, self.main, self.device = pretext, regulariser, main, device

    def forward(self, views: tuple, group: str, samples: int) -> Score:
        with self.device.autocast():
            loss = self.pretext(views, group)._replace(samples=samples)
        total = loss.value.float()
        terms = self.regulariser(loss, self.pretext) if group == self.main else {}
        for term in terms.values():
            total = total + term
        parts = ({name: each.detach() for name, each in part.items()} for part in (loss.metrics, terms, loss.kept))
        return Score(total, loss.value.detach(), *parts)
