"""Factors of variation that a linear model can read off frozen features, and which the task has dropped.

After Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations, ICLR 2018
(informativeness), with linear models: the probe's logistic regression, and ridge regression (Hoerl & Kennard, 1970).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Interval, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.linear import fit_classifier, fit_standardiser
from ssl_runner.probing.require import require_finite, require_labelled
from ssl_runner.probing.scores import r_squared
from ssl_runner.probing.targets import count_classes


@dataclass(frozen=True, kw_only=True)
class Factors:
    """For each factor, the share of the error of the best constant guess that a linear model removes, in [0, 1].

    The error of a continuous factor is its squared error over all its components, so the number is R squared; that of a
    categorical factor (whole numbers) is the share of wrong guesses, so the number is (accuracy - chance) /
    (1 - chance), chance being the share of the most frequent value. Both are measured on the query, where the constant
    is the best one too; worse than a constant guess is 0. `mean` is the mean over factors. A factor that does not vary
    in the query is left out, and so are targets of several labels at once.

    Raises:
        ValueError: the samples have no known factors, a circular one is none of them, or bank or query are empty; from
            the call, if no factor varies.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "mean"

    every: Duration
    circular: tuple[str, ...] = ("hue",)  # factors that are angles, in turns: their cosine and sine are read off
    # Weights of |W|^2 / 2 beside the mean error, to choose from: for a categorical factor on a held-out part of the
    # bank, for each component of a continuous one by leaving out one row of the bank at a time.
    l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2  # share of the bank that is held out
    bank: Split
    query: Split

    def __post_init__(self) -> None:
        known = self.bank.targets
        if not known or set(known) != set(self.query.targets):
            raise ValueError("this dataset does not know the factors of its samples; use dataset=shapes")
        for name in self.circular:
            if name not in known:
                raise ValueError(f"circular names '{name}', and the factors are {', '.join(known)}")
        require_labelled("factors", next(iter(known)), bank=self.bank, query=self.query)

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        values: dict[str, float] = {}
        known, truth = {}, {}
        factors = {name: each for name, each in self.bank.targets.items() if each.dtype != torch.bool}
        for name, factor in factors.items():
            if factor.is_floating_point():
                known[name], truth[name] = (
                    self.components(name, split.targets[name]) for split in (self.bank, self.query)
                )
            else:
                values[name] = self.score_categorical(bank, query, factor, self.query.targets[name])
        if known:
            values |= score_continuous(bank, query, known, truth, self.l2)
        values = {name: max(values[name], 0.0) for name in factors if not math.isnan(values[name])}
        if not values:
            raise ValueError("no factor varies among the rows that it is measured on; give more of them")
        values = {"mean": sum(values.values()) / len(values)} | values
        return {name: Metric(value, "larger", "number") for name, value in values.items()}

    def score_categorical(
        self, bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], y: Int[Tensor, " n"], truth: Int[Tensor, " q"]
    ) -> float:
        """(accuracy - chance) / (1 - chance), or NaN if the query has a single value."""
        model = fit_classifier(bank, y, count_classes(y, truth), l2=self.l2, held_out=self.held_out)
        truth = truth.to(query.device)
        hits = (model.scores(query).argmax(1).to(truth) == truth).sum()
        chance = int(truth.bincount().max())
        return (int(hits) - chance) / (len(truth) - chance) if chance < len(truth) else math.nan

    def components(self, name: str, factor: Float[Tensor, "n ..."]) -> Float[Tensor, "n c"]:
        """Regression targets of a continuous factor, in float64 on the CPU."""
        factor = factor.cpu().double().reshape(len(factor), -1)
        if name not in self.circular:
            return factor
        return torch.cat([(2 * math.pi * factor).cos(), (2 * math.pi * factor).sin()], 1)


def score_continuous(
    bank: Float[Tensor, "n d"],
    query: Float[Tensor, "q d"],
    known: Mapping[str, Float[Tensor, "n _"]],
    truth: Mapping[str, Float[Tensor, "q _"]],
    l2: tuple[float, ...],
) -> dict[str, float]:
    """R squared on the query of each factor, over all its components; NaN if it does not vary."""
    from sklearn.linear_model import RidgeCV

    standardise = fit_standardiser(bank)
    # scikit-learn sums squared errors, and here they are averaged.
    ridge = RidgeCV([each * len(bank) for each in l2], alpha_per_target=True)
    ridge.fit(standardise(bank).cpu().numpy(), torch.cat(list(known.values()), 1).numpy())
    predicted = torch.from_numpy(ridge.predict(standardise(query).cpu().numpy())).reshape(len(query), -1)
    parts = predicted.split([each.shape[1] for each in known.values()], 1)
    return {name: r_squared(part, truth[name]) for name, part in zip(known, parts, strict=True)}
