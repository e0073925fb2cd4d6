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
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Duration, Encoder, Rows, Split

CELLS = 2**24  # numbers in the largest matrix, 64 MB


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
        if k > len(bank.y):
            raise ValueError(f"k is {k} and the bank holds {len(bank.y)} samples; use evaluator.knn.k={len(bank.y)}")
        if len(query.y) == 0:
            raise ValueError("the query holds no labelled sample; give it some or leave kNN out")
        self.every = every
        self.k = k
        self.temperature = temperature
        self.bank = bank
        self.query = query
        self.classes = classes

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, float]:
        bank = F.normalize(encode(self.bank.x), dim=1)  # (n, d)
        query = F.normalize(encode(self.query.x), dim=1)  # (q, d)
        if not (bank.isfinite().all() and query.isfinite().all()):
            raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
        y, truth = self.bank.y.to(bank.device, torch.int64), self.query.y.to(bank.device, torch.int64)
        at_once = max(1, CELLS // max(len(bank), self.k * self.classes))
        first = first_five = 0
        for part, labels in zip(query.split(at_once), truth.split(at_once), strict=True):
            near, rows = (part @ bank.T).topk(self.k)  # (b, k), nearest first
            # Less the largest: the same winner, and no overflow at a small temperature.
            weight = ((near - near[:, :1]) / self.temperature).exp()
            # A product and no scatter: sums of atomic adds differ from run to run on CUDA.
            votes = (weight[:, None] @ F.one_hot(y[rows], self.classes).to(weight.dtype))[:, 0]  # (b, classes)
            most, guesses = votes.topk(min(5, self.classes))
            hits = (guesses == labels[:, None]) & (most > 0)  # a class without a vote is no guess
            first, first_five = first + hits[:, 0].sum(), first_five + hits.sum()
        shares = {"top1": float(first) / len(truth)}
        return shares | ({"top5": float(first_five) / len(truth)} if self.classes > 5 else {})
