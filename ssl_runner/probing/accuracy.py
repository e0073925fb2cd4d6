"""How often the class of a sample is first, or among the first five, of ranked guesses."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Metric


def shares(guesses: Int[Tensor, "q r"], truth: Int[Tensor, " q"], classes: int) -> dict[str, float]:
    """`top1`, and `top5` where there are more than five classes, in [0, 1]; a guess of -1 is none."""
    hits = guesses == truth.to(guesses.device)[:, None]  # (q, r)
    first = {"top1": float(hits[:, 0].sum()) / len(truth)}
    return first | ({"top5": float(hits[:, :5].sum()) / len(truth)} if classes > 5 else {})


def as_shares(values: Mapping[str, float]) -> dict[str, Metric]:
    """Shares in [0, 1] of which more is better."""
    return {name: Metric(value) for name, value in values.items()}
