"""Factors: which known causes of a sample can be read off its frozen features linearly, and which the task has dropped.

After Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations, ICLR 2018
(informativeness), with linear readers: the probe's logistic regression, and ridge regression (Hoerl & Kennard, 1970).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Gt, Interval, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.accuracy import as_shares
from ssl_runner.probing.linear import fit, standardised
from ssl_runner.probing.require import require_finite, require_labelled


class Factors:
    """For each factor, the share of the error of the best constant guess that a linear reader takes away.

    1 is a factor read off without error and 0 one of which nothing is left; worse than a constant guess is 0 as well.
    The error of a continuous factor is its squared error over all its components, so the number is R²; that of a
    categorical factor (whole numbers) is the share of wrong guesses, so the number is (accuracy - chance) /
    (1 - chance), chance being the share of the most frequent value. Both are measured on the query, where the constant
    is the best one too. `mean` is the mean over factors. A factor that does not vary in the query is left out.

    Args:
        every: how often it runs.
        circular: factors that are angles, in turns: their cosine and sine are read off.
        l2: weights of |W|^2 / 2 beside the mean error to choose from: for a categorical factor on a held-out part of
            the bank, for each component of a continuous one by leaving out one row of the bank at a time.
        held_out: share of the bank that is held out.
        bank: what the readers are fitted on.
        query: what they are measured on.

    Raises:
        ValueError: the samples have no known factors, a circular one is none of them, or bank or query are empty; from
            the call, where no factor varies.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 2
    headline = "mean"

    def __init__(
        self,
        *,
        every: Duration,
        circular: tuple[str, ...] = ("hue",),
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        bank: Split,
        query: Split,
    ):
        if not bank.targets or set(bank.targets) != set(query.targets):
            raise ValueError("this dataset does not know the factors of its samples; use dataset=shapes")
        for name in circular:
            if name not in bank.targets:
                raise ValueError(f"circular names '{name}', and the factors are {', '.join(bank.targets)}")
        require_labelled("factors", bank=bank, query=query)
        self.every = every
        self.circular = circular
        self.l2 = l2
        self.held_out = held_out
        self.bank = bank
        self.query = query

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        values: dict[str, float] = {}
        known, wanted = {}, {}
        for name, factor in self.bank.targets.items():
            if factor.is_floating_point():
                known[name], wanted[name] = (
                    self.components(name, split.targets[name]) for split in (self.bank, self.query)
                )
            else:
                values[name] = self.categorical(bank, query, factor, self.query.targets[name])
        if known:
            values |= continuous(bank, query, known, wanted, self.l2)
        values = {name: max(values[name], 0.0) for name in self.bank.targets if not math.isnan(values[name])}
        if not values:
            raise ValueError("no factor varies among the rows that it is measured on; give more of them")
        return as_shares({"mean": sum(values.values()) / len(values)} | values)

    def categorical(
        self, bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], y: Int[Tensor, " n"], truth: Int[Tensor, " q"]
    ) -> float:
        """(accuracy - chance) / (1 - chance), or NaN where the query has one value alone."""
        classes = 1 + int(torch.cat([y, truth]).max())
        truth = truth.to(query.device)
        hits = (
            fit(bank, y, classes, l2=self.l2, held_out=self.held_out).scores(query).argmax(1).to(truth) == truth
        ).sum()
        chance = int(truth.bincount().max())
        return (int(hits) - chance) / (len(truth) - chance) if chance < len(truth) else math.nan

    def components(self, name: str, factor: Float[Tensor, "n ..."]) -> Float[Tensor, "n c"]:
        """What is regressed, in float64 on the CPU."""
        factor = factor.cpu().double().reshape(len(factor), -1)
        return (
            torch.cat([(2 * math.pi * factor).cos(), (2 * math.pi * factor).sin()], 1)
            if name in self.circular
            else factor
        )


def continuous(
    bank: Float[Tensor, "n d"],
    query: Float[Tensor, "q d"],
    known: Mapping[str, Float[Tensor, "n _"]],
    wanted: Mapping[str, Float[Tensor, "q _"]],
    l2: tuple[float, ...],
) -> dict[str, float]:
    """R² on the query of each factor, over all its components; NaN where it does not vary."""
    from sklearn.linear_model import RidgeCV

    standard = standardised(bank)
    # scikit-learn adds up the squared errors where ours is their mean.
    ridge = RidgeCV([each * len(bank) for each in l2], alpha_per_target=True)
    ridge.fit(standard(bank).cpu().numpy(), torch.cat(list(known.values()), 1).numpy())
    guesses = torch.from_numpy(ridge.predict(standard(query).cpu().numpy())).reshape(len(query), -1)
    values = {}
    for guess, (name, truth) in zip(
        guesses.split([each.shape[1] for each in known.values()], 1), wanted.items(), strict=True
    ):
        spread = (truth - truth.mean(0)).square().sum()
        values[name] = 1 - float((guess - truth).square().sum() / spread) if spread > 0 else math.nan
    return values
