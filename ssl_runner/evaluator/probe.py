"""Linear probe: how well a linear model predicts a target from frozen features.

After Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv 1610.01644.
Classes: multinomial logistic regression (probing/linear.py). Numbers: ridge regression. Several labels at once: a
logistic regression of each (both probing/regression.py). The L2 weight is chosen on held-out training rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.regression import fit_labels, fit_ridge
from ssl_runner.probing.require import require_finite, require_labelled
from ssl_runner.probing.scores import as_shares, score_predictions, top_accuracies
from ssl_runner.probing.targets import count_classes, headline_of, is_class, read_target


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Of a target of numbers it is `r2`: R squared over all components. Of several labels at once it is `map`: average
    precision, averaged over labels. `l2` is the weight that was chosen: at an end of the grid, the grid is too short.
    The minimum is settled in float64, and the held-out part is not drawn from the run's seed: runs are measured alike.
    The query plays no part in the fit or in the choice.

    Raises:
        ValueError: the bank or the query is empty, or the target is unknown; from the call, if a target does not vary
            in the query.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "top1"  # of classes; an instance has that of its target

    every: Duration
    target: str | None = None  # a further target of the dataset; None is the class
    # Weights of |W|^2 / 2 beside the mean cross-entropy, to choose from; scikit-learn's C is 1 / (n * l2).
    l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2  # share of each class that the choice is made on
    bank: Split  # the rows that it is fitted on, in the end all of them
    query: Split
    classes: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        require_labelled("the probe", self.target, bank=self.bank, query=self.query)
        object.__setattr__(self, "headline", headline_of(read_target(self.bank, self.target)))

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        known, truth = (read_target(split, self.target) for split in (self.bank, self.query))
        if is_class(known):
            classes = self.classes if self.target is None else count_classes(known, truth)
            model = fit_classifier(bank, known, classes, l2=self.l2, held_out=self.held_out)
            values = as_shares(top_accuracies(model.rank_classes(query), truth, classes))
        else:
            fit = fit_ridge if known.is_floating_point() else fit_labels
            model = fit(bank, known.reshape(len(known), -1), l2=self.l2, held_out=self.held_out)
            values = score_predictions(model.scores(query), truth.reshape(len(truth), -1))
        return values | {"l2": Metric(model.l2, None, "number")}
