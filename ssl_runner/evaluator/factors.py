"""Factors of variation that a linear model can read off frozen features, and which the task has dropped.

After Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations, ICLR 2018
(informativeness), with linear models: the probe's logistic regression, and ridge regression (Hoerl & Kennard, 1970).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.linear import Standardiser, fit_classifier, r_squared
from ssl_runner.probing.protocol import L2, Encode, Part, Penalties, require_finite, require_labelled

ANGLES = ("hue",)  # factors of our datasets that are circular


@dataclass(frozen=True, kw_only=True)
class Factors:
    """For each factor, the share of the error of the best constant guess that a linear model removes, in [0, 1].

    The error of a continuous factor is its squared error over all its components, so the number is R squared; that of a
    categorical factor (whole numbers) is the share of wrong guesses, so the number is (accuracy - chance) /
    (1 - chance), chance being the share of the most frequent value. Both are measured on the query, where the constant
    is the best one too; worse than a constant guess is 0. `mean` is the mean over factors. A factor that does not vary
    in the query is left out, and so are targets of several labels at once.

    Raises ValueError if the samples have no known factors, a circular one is none of them, or bank or query are empty;
    from the call, if no factor varies; FloatingPointError from the call, if a feature is not finite.
    """

    version = 2
    headline = "mean"
    raw = True  # it is measured on raw features as well
    every: Duration
    # Factors that are angles, in turns: their cosine and sine are read off. None: ANGLES that the dataset has.
    circular: tuple[str, ...] | None = None
    # Weights of |W|^2 / 2 beside the mean error, to choose from: for a categorical factor on a held-out part of the
    # bank, for each component of a continuous one by leaving out one row of the bank at a time.
    l2: Penalties = L2
    held_out: Part = 0.2  # share of the bank that is held out
    bank: Split
    query: Split

    def __post_init__(self) -> None:
        known = self.bank.targets
        if not known or set(known) != set(self.query.targets):
            raise ValueError("this dataset does not know the factors of its samples; leave factors out")
        for name in self.circular or ():
            if name not in known:
                given = f"circular names '{name}', and the factors are {', '.join(known)}"
                raise ValueError(f"{given}; type null, or those of them that are angles")
        require_labelled("factors", next(iter(known)), bank=self.bank, query=self.query)

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank, query = encode(self.bank.x), encode(self.query.x)  # (n, d), (q, d)
        require_finite(bank, query)
        factors = {name: each for name, each in self.bank.targets.items() if each.dtype != torch.bool}
        values = self.score_continuous(bank, query, [name for name, y in factors.items() if y.is_floating_point()])
        for name, y in factors.items():
            if name not in values:
                truth = self.query.targets[name].to(query.device)
                classes, chance = 1 + max(int(y.max()), int(truth.max())), int(truth.bincount().max())
                model = fit_classifier(bank, y, classes, l2=self.l2, held_out=self.held_out)
                hits = int((model.scores(query).argmax(1).to(truth) == truth).sum())
                values[name] = (hits - chance) / (len(truth) - chance) if chance < len(truth) else math.nan
        values = {name: max(values[name], 0.0) for name in factors if not math.isnan(values[name])}
        if not values:
            raise ValueError("no factor varies among the rows that it is measured on; give more of them")
        values = {"mean": sum(values.values()) / len(values)} | values
        return {name: Metric(value, "larger", "number") for name, value in values.items()}

    def score_continuous(
        self, bank: Float[Tensor, "n d"], query: Float[Tensor, "q d"], names: list[str]
    ) -> dict[str, float]:
        """R squared on the query of each factor, over all its components; NaN if it does not vary."""
        if not names:
            return {}
        from sklearn.linear_model import RidgeCV

        known, truth = ([self.components(split, name) for name in names] for split in (self.bank, self.query))
        standardise = Standardiser.fit(bank)
        # scikit-learn sums squared errors, and here they are averaged.
        ridge = RidgeCV([each * len(bank) for each in self.l2], alpha_per_target=True)
        ridge.fit(standardise(bank).cpu().numpy(), torch.cat(known, 1).numpy())
        predicted = torch.from_numpy(ridge.predict(standardise(query).cpu().numpy())).reshape(len(query), -1)
        parts = predicted.split([each.shape[1] for each in truth], 1)
        return {name: r_squared(*each) for name, *each in zip(names, parts, truth, strict=True)}

    def components(self, split: Split, name: str) -> Float[Tensor, "n c"]:
        """Regression targets of a continuous factor, in float64 on the CPU."""
        factor = split.targets[name].cpu().double().reshape(len(split.x), -1)
        angle = 2 * math.pi * factor
        angles = ANGLES if self.circular is None else self.circular
        return torch.cat([angle.cos(), angle.sin()], 1) if name in angles else factor
