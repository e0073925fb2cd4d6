"""Weighted k-nearest-neighbour prediction on frozen features: no fit, and nothing to tune.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
Differs: k is 20, not 200, as in Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021,
arXiv 2104.14294.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.knn_vote import average_neighbours, rank_classes
from ssl_runner.probing.require import require_finite, require_labelled, require_neighbours
from ssl_runner.probing.scores import as_shares, score_predictions, top_accuracies
from ssl_runner.probing.targets import count_classes, headline_of, is_class, read_target


@dataclass(frozen=True, kw_only=True)
class KNN:
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Of a target of numbers it is `r2`: R squared over all components of the neighbours' weighted mean. Of several labels
    at once it is `map`: average precision by a label's share of the votes, averaged over labels.

    Raises:
        ValueError: k is larger than the bank, the query is empty, or the target is unknown; from the call, if a target
            does not vary in the query.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"  # of classes; an instance has that of its target

    every: Duration
    target: str | None = None  # a further target of the dataset; None is the class
    k: Annotated[int, Ge(1)] = 20  # neighbours that vote, by cosine similarity
    temperature: Annotated[float, Gt(0)] = 0.07  # of a vote exp(similarity / temperature)
    bank: Split  # the rows that vote
    query: Split
    classes: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        require_neighbours(self.k, self.bank, "knn")
        require_labelled("knn", self.target, bank=self.bank, query=self.query)
        object.__setattr__(self, "headline", headline_of(read_target(self.bank, self.target)))

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        known, truth = (read_target(split, self.target) for split in (self.bank, self.query))
        if is_class(known):
            classes = self.classes if self.target is None else count_classes(known, truth)
            guesses = rank_classes(bank, known, query, k=self.k, temperature=self.temperature, classes=classes)
            return as_shares(top_accuracies(guesses, truth, classes))
        values = known.reshape(len(known), -1).to(bank)
        predicted = average_neighbours(bank, values, query, k=self.k, temperature=self.temperature)
        return score_predictions(predicted, truth.reshape(len(truth), -1))
