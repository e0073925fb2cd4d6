"""Linear probe: how well a linear classifier tells the classes apart on frozen features.

After Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv 1610.01644.
Fitted as probing/linear.py describes: multinomial logistic regression, its L2 weight chosen on held-out training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.linear import fit
from ssl_runner.probing.require import require_finite, require_labelled


class Probe:
    """Shares of query samples whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Beside them stands `l2`, the weight that was chosen: at an end of the grid, the grid is too short.
    Its minimum is settled in float64, and its held-out part is not drawn from the run's seed: runs are measured alike.
    The query plays no part in the fit or in the choice.

    Args:
        every: how often it runs.
        l2: weights of |W|^2 / 2 beside the mean cross-entropy, to choose from; scikit-learn's C is 1 / (n * l2).
        held_out: share of each class of the bank that they are chosen on; the fit then takes the whole bank.
        bank: what it is fitted on.
        query: what it is measured on.

    Raises:
        ValueError: the bank or the query is empty.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 2
    headline = "top1"

    def __init__(
        self,
        *,
        every: Duration,
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        bank: Split,
        query: Split,
        classes: Annotated[int, Ge(1)],
    ):
        require_labelled("the probe", bank=bank, query=query)
        self.every = every
        self.l2 = l2
        self.held_out = held_out
        self.bank = bank
        self.query = query
        self.classes = classes

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        classifier = fit(bank, self.bank.y, self.classes, l2=self.l2, held_out=self.held_out)
        accuracies = as_shares(shares(classifier.ranked(query), self.query.y, self.classes))
        return accuracies | {"l2": Metric(classifier.l2, None, "number")}
