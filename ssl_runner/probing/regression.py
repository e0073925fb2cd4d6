"""Linear probes of further targets: ridge regression of numbers, a logistic regression of each of several labels.

Hoerl & Kennard, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 12, 1970.
Features are standardised, losses are means and the L2 weight is chosen on held-out rows, as in probing/linear.py.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.data.rows import stratified_split
from ssl_runner.probing.linear import CHOOSING, FITTING, LinearModel, fit_standardiser
from ssl_runner.probing.logistic import Linear, Rotated, fit_path
from ssl_runner.probing.scores import mean_average_precision


def fit_ridge(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n c"], *, l2: Sequence[float], held_out: float, seed: int = 0
) -> LinearModel:
    """Ridge regression on all rows, at the L2 weight with the least squared error on the held-out part.

    l2: weights of |W|^2 beside the mean squared error, to choose from, above 0; scikit-learn's alpha is n * l2.
    """
    standardise = fit_standardiser(x)
    x = standardise(x)
    y = y.to(x)
    rest, held = hold_out(len(x), held_out, seed)
    best, least = max(l2), float("inf")
    for penalty, linear in ridge_path(x[rest], y[rest], l2) if len(l2) > 1 and len(held) else ():
        error = float((linear.scores(x[held]) - y[held]).square().sum())
        if error < least:
            best, least = penalty, error
    ((_, linear),) = ridge_path(x, y, (best,))
    return LinearModel(standardise, linear, best)


def ridge_path(x: Float[Tensor, "n d"], y: Float[Tensor, "n c"], l2: Sequence[float]) -> Iterator[tuple[float, Linear]]:
    """The solution of each L2 weight, strongest first, from one eigendecomposition."""
    mean, centre = x.mean(0), y.mean(0)
    variance, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    covariance = axes.T @ ((x - mean).T @ (y - centre)) / len(x)  # (d, c)
    for penalty in sorted(l2, reverse=True):
        weight = axes @ (covariance / (variance.clamp(min=0) + penalty)[:, None])
        yield penalty, Linear(weight, centre - mean @ weight)


def fit_labels(
    x: Float[Tensor, "n d"], y: Bool[Tensor, "n k"], *, l2: Sequence[float], held_out: float, seed: int = 0
) -> LinearModel:
    """A logistic regression of each label on all rows, at the L2 weight with the best mean average precision held out.

    l2: weights of |W|^2 / 2 beside the mean cross-entropy, W with a column for having a label and one for not having
    it, to choose from, above 0; scikit-learn's C is 2 / (n * l2).
    """
    standardise = fit_standardiser(x)
    rotated = Rotated.of(standardise(x))
    y = y.to(rotated.x.device)
    rest, held = hold_out(len(y), held_out, seed)
    best = max(l2)
    if len(l2) > 1 and y[held].any():
        paths = [dict(fit_path(rotated, label.long(), 2, l2, CHOOSING, rows=rest)) for label in y.T]
        held_out_map = {
            penalty: mean_average_precision(
                torch.stack([rotated.scores(path[penalty], held).diff(dim=1)[:, 0] for path in paths], 1), y[held]
            )
            for penalty in sorted(l2, reverse=True)
        }
        best = max(held_out_map, key=lambda penalty: held_out_map[penalty])  # the strongest of equals
    fitted = [linear for label in y.T for _, linear in fit_path(rotated, label.long(), 2, (best,), FITTING)]
    weight = torch.cat([each.weight.diff(dim=1) for each in fitted], 1)  # (d, k)
    return LinearModel(standardise, Linear(weight, torch.cat([each.bias.diff() for each in fitted])), best)


def hold_out(n: int, share: float, seed: int) -> tuple[Int[Tensor, " rest"], Int[Tensor, " held"]]:
    return stratified_split(torch.zeros(n, dtype=torch.int64), share, seed)
