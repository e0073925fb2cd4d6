"""Linear models of standardised features: logistic regression of classes or labels, ridge regression, and their scores.

Each chooses its L2 weight on a held-out part of the rows, and is then fitted on all of them. Radford et al.: Learning
transferable visual models from natural language supervision, ICML 2021, arXiv 2103.00020, appendix A: logistic
regression. Hoerl & Kennard, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 12, 1970.
Differs: the features are standardised, and the loss is a mean, so that one grid of L2 weights serves banks of any size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.data.rows import stratified_split
from ssl_runner.probing.geometry import to_float64
from ssl_runner.probing.logistic import Linear, Rotated, fit_path

CHOOSING, FITTING = 1e-4, 1e-6  # largest gradient at the end; the last only settles the fourth digit
HOPELESS = 4  # standard errors of held-out hits that a weight loses by


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit deviation a feature, over the rows that it was fitted to; constants become 0."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]  # one over the deviation

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"]) -> "Standardiser":
        x = to_float64(x, copy=True)
        mean, largest = x.mean(0), torch.maximum(x.amax(0), -x.amin(0))
        deviation = x.sub_(mean).square_().mean(0).sqrt()  # x.std takes four times as long on a CPU
        # A constant feature has a deviation of rounding errors: dividing by it would blow noise up to unit size.
        constant = deviation <= 1e-6 * largest
        return cls(mean, torch.where(constant, 0, 1 / deviation))

    def __call__(self, x: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Features in float64."""
        return to_float64(x, copy=True).sub_(self.mean).mul_(self.scale)

    def undo(self, linear: Linear) -> Linear:
        """The same linear map, of features as the encoder yields them."""
        weight = self.scale[:, None] * linear.weight
        return Linear(weight, linear.bias - self.mean @ weight, linear.l2)


def fit_classifier(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], classes: int, *, l2: Sequence[float], held_out: float | Tensor
) -> Linear:
    """Multinomial logistic regression. Nothing is drawn but the held-out part, from a seed of its own.

    l2: weights of |W|^2 / 2 beside the mean cross-entropy, to choose from, above 0; scikit-learn's C is 1 / (n * l2).
    held_out: share of each class that the choice is made on, in (0, 1); or which rows, Bool (n,).
    """
    standardise = Standardiser.fit(x)
    rotated = Rotated.of(standardise(x))
    y = y.to(rotated.x.device, torch.int64)
    start = choose_l2(rotated, y, classes, l2=l2, held_out=held_out) if len(l2) > 1 else None
    (linear,) = fit_path(rotated, y, classes, l2 if start is None else (start.l2,), FITTING, start=start)
    return standardise.undo(linear)


def choose_l2(
    x: Rotated, y: Int[Tensor, " n"], classes: int, *, l2: Sequence[float], held_out: float | Tensor
) -> Linear:
    """The classifier with the most hits on the held-out part of standardised rows; of equals, that of the strongest L2.

    If no class has two rows nothing can be held out, and all are equal. The search ends at a weight so weak that it
    loses to the best beyond doubt (McNemar's test of correlated proportions, Psychometrika 1947): those weaker still
    would take the longest, and are taken to lose as well.
    """
    if isinstance(held_out, Tensor):
        parts = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
    else:
        parts = stratified_split(y, held_out, 0)
    rest, held = (rows.to(y.device) for rows in parts)
    best, most = None, torch.zeros(len(held), dtype=torch.bool, device=y.device)  # most: the rows that best has right
    for linear in fit_path(x, y, classes, l2, CHOOSING, rows=rest):
        right = x.scores(linear, held).argmax(1) == y[held]
        won, lost = int((right & ~most).sum()), int((most & ~right).sum())
        if won > lost or best is None:
            best, most = linear, right
        elif lost - won > HOPELESS * (lost + won) ** 0.5:
            break
    return best


def fit_ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n c"], *, l2: Sequence[float], held_out: float) -> Linear:
    """Ridge regression, at the L2 weight with the least squared error on the held-out part.

    l2: weights of |W|^2 beside the mean squared error, to choose from, above 0; scikit-learn's alpha is n * l2.
    """
    standardise = Standardiser.fit(x)
    x = standardise(x)
    y = y.to(x)
    rest, held = stratified_split(torch.zeros(len(y), dtype=torch.int64), held_out, 0)
    path = ridge_path(x[rest], y[rest], l2) if len(l2) > 1 and len(held) else ()
    errors = {linear.l2: float((linear.scores(x[held]) - y[held]).square().sum()) for linear in path}
    best = min(errors, key=errors.__getitem__, default=max(l2))  # the strongest of equals
    return standardise.undo(*ridge_path(x, y, (best,)))


def ridge_path(x: Float[Tensor, "n d"], y: Float[Tensor, "n c"], l2: Sequence[float]) -> list[Linear]:
    """The solution of each L2 weight, strongest first, from one eigendecomposition."""
    mean, centre = x.mean(0), y.mean(0)
    centred = x - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(x))
    covariance = axes.T @ (centred.T @ (y - centre)) / len(x)  # (d, c)
    path = [(axes @ (covariance / (variance.clamp(min=0) + each)[:, None]), each) for each in sorted(l2, reverse=True)]
    return [Linear(weight, centre - mean @ weight, penalty) for weight, penalty in path]


def fit_labels(x: Float[Tensor, "n d"], y: Bool[Tensor, "n k"], *, l2: Sequence[float], held_out: float) -> Linear:
    """A logistic regression of each label, at the L2 weight with the best mean average precision held out.

    l2: weights of |W|^2 / 2 beside the mean cross-entropy, W with a column for having a label and one for not having
    it, to choose from, above 0; scikit-learn's C is 2 / (n * l2).
    """
    standardise = Standardiser.fit(x)
    rotated = Rotated.of(standardise(x))
    labels = y.to(rotated.x.device)
    rest, held = stratified_split(torch.zeros(len(y), dtype=torch.int64), held_out, 0)
    best = max(l2)
    if len(l2) > 1 and labels[held].any():
        paths = zip(*(fit_path(rotated, y.long(), 2, l2, CHOOSING, rows=rest) for y in labels.T), strict=True)
        odds = {path[0].l2: torch.cat([rotated.scores(each, held).diff() for each in path], 1) for path in paths}
        best = max(odds, key=lambda each: mean_average_precision(odds[each], labels[held]))  # the strongest of equals
    fitted = [linear for y in labels.T for linear in fit_path(rotated, y.long(), 2, (best,), FITTING)]
    weight, bias = (torch.cat([each[part].diff() for each in fitted], -1) for part in (0, 1))  # (d, k), (k,)
    return standardise.undo(Linear(weight, bias, best))


def r_squared(predicted: Float[Tensor, "q c"], truth: Float[Tensor, "q c"]) -> float:
    """Share of the variance of all components that is predicted, at most 1; NaN if the truth does not vary."""
    total = (truth - truth.mean(0)).square().sum()
    return 1 - float((predicted - truth).square().sum() / total) if total > 0 else math.nan


def mean_average_precision(scores: Float[Tensor, "q k"], truth: Bool[Tensor, "q k"]) -> float:
    """Average precision of each label that some row has, averaged over labels, in [0, 1]; NaN if there is none."""
    from sklearn.metrics import average_precision_score

    truth, scores = truth.cpu(), scores.cpu()
    occurring = truth.any(0)  # (k,)
    if not occurring.any():
        return math.nan
    return float(average_precision_score(truth[:, occurring].numpy(), scores[:, occurring].numpy()))
