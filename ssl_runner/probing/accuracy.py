"""How often the class of a sample is first, or among the first five, of ranked guesses."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor


def shares(guesses: Int[Tensor, "q r"], truth: Int[Tensor, " q"], classes: int) -> dict[str, float]:
    """`top1`, and `top5` where there are more than five classes, in [0, 1]; a guess of -1 is none."""
    hits = guesses == truth.to(guesses.device)[:, None]  # (q, r)
    first = {"top1": float(hits[:, 0].sum()) / len(truth)}
    return first | ({"top5": float(hits[:, :5].sum()) / len(truth)} if classes > 5 else {})
