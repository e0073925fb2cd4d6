"""Weighted k-nearest-neighbour classifier on frozen features: no fit, and nothing to tune.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
Differs: k is 20, not 200, as in Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021,
arXiv 2104.14294.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.knn_vote import ranked
from ssl_runner.probing.require import require_finite, require_labelled, require_neighbours


class KNN:
    """Shares of query samples whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Args:
        every: how often it runs.
        k: neighbours that vote, by cosine similarity.
        temperature: of a vote exp(similarity / temperature); the smaller, the more the nearest decide.
        bank: the samples that vote.
        query: what it is measured on.

    Raises:
        ValueError: k is larger than the bank, or the query is empty.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 1
    headline = "top1"

    def __init__(
        self,
        *,
        every: Duration,
        k: Annotated[int, Ge(1)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.07,
        bank: Split,
        query: Split,
        classes: Annotated[int, Ge(1)],
    ):
        require_neighbours(k, bank, "knn")
        require_labelled("kNN", query=query)
        self.every = every
        self.k = k
        self.temperature = temperature
        self.bank = bank
        self.query = query
        self.classes = classes

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        guesses = ranked(bank, self.bank.y, query, k=self.k, temperature=self.temperature, classes=self.classes)
        return as_shares(shares(guesses, self.query.y, self.classes))
