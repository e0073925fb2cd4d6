"""Linear classifier on standardised features, its L2 weight chosen on a held-out part of the rows it is fitted on.

Radford et al.: Learning transferable visual models from natural language supervision, ICML 2021, arXiv 2103.00020,
appendix A: multinomial logistic regression by L-BFGS.
Differs: the features are standardised, and the loss is a mean, so that one grid of L2 weights serves banks of any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.data.rows import stratified_split
from ssl_runner.probing.double import to_float64
from ssl_runner.probing.logistic import Linear, Rotated, fit_path

CHOOSING, FITTING = 1e-4, 1e-6  # largest gradient at the end; the last only settles the fourth digit
HOPELESS = 4  # standard errors of held-out hits that a weight loses by


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit deviation a feature, over the rows that it was fitted to; constants become 0."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]  # one over the deviation

    def __call__(self, x: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Features in float64."""
        return (to_float64(x) - self.mean).mul_(self.scale)


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear map of features as the encoder yields them; `l2` is the weight that was chosen."""

    standardise: Standardiser
    linear: Linear
    l2: float

    def scores(self, x: Float[Tensor, "q d"]) -> Float[Tensor, "q c"]:
        """Log-probabilities up to a constant a row, log-odds of labels, or predicted numbers; float64."""
        return self.linear.scores(self.standardise(x))

    def rank_classes(self, x: Float[Tensor, "q d"]) -> Int[Tensor, "q r"]:
        """Up to five classes of each row, the likeliest first."""
        scores = self.scores(x)
        return scores.topk(min(5, scores.shape[1])).indices


def fit_standardiser(x: Float[Tensor, "n d"]) -> Standardiser:
    x = to_float64(x)
    mean = x.mean(0)
    deviation = (x - mean).square_().mean(0).sqrt()  # x.std takes four times as long on a CPU
    # A constant feature has a deviation of rounding errors: dividing by it would blow noise up to unit size.
    constant = deviation <= 1e-6 * torch.maximum(x.amax(0), -x.amin(0))
    return Standardiser(mean, torch.where(constant, 0, 1 / deviation))


def fit_classifier(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], classes: int, *, l2: Sequence[float], held_out: float, seed: int = 0
) -> LinearModel:
    """Multinomial logistic regression on all rows. Nothing is drawn but the held-out part, from `seed`.

    l2: weights of |W|^2 / 2 beside the mean cross-entropy, to choose from, above 0; scikit-learn's C is 1 / (n * l2).
    held_out: share of each class that the choice is made on, in (0, 1).
    """
    x = to_float64(x)
    standardise = fit_standardiser(x)
    rotated = Rotated.of(standardise(x))
    y = y.to(rotated.x.device, torch.int64)
    best, start = choose_l2(rotated, y, classes, l2=l2, held_out=held_out, seed=seed)
    ((_, linear),) = fit_path(rotated, y, classes, (best,), FITTING, start=start)
    return LinearModel(standardise, linear, best)


def choose_l2(
    x: Rotated, y: Int[Tensor, " n"], classes: int, *, l2: Sequence[float], held_out: float, seed: int = 0
) -> tuple[float, Linear | None]:
    """The L2 weight with the most hits on the held-out part of standardised rows; of equals, the strongest.

    Beside it the classifier that had them, None if there was nothing to choose. If no class has two rows nothing can be
    held out, and all are equal. The search ends at a weight so weak that it loses to the best beyond doubt (McNemar's
    test of correlated proportions, Psychometrika 1947): those weaker still would take the longest, and are taken to
    lose as well.
    """
    if len(l2) == 1:
        return l2[0], None
    rest, held = (rows.to(y.device) for rows in stratified_split(y, held_out, seed))
    best: tuple[float, Linear | None] = (max(l2), None)
    most = torch.zeros(len(held), dtype=torch.bool, device=y.device)  # which rows the best one has right
    for penalty, linear in fit_path(x, y, classes, l2, CHOOSING, rows=rest):
        right = x.scores(linear, held).argmax(1) == y[held]
        won, lost = int((right & ~most).sum()), int((most & ~right).sum())
        if won > lost or best[1] is None:
            best, most = (penalty, linear), right
        elif lost - won > HOPELESS * (lost + won) ** 0.5:
            break
    return best
