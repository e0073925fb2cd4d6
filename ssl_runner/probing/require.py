"""Requirements of a protocol: labelled samples, enough neighbours, finite features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Split


def require_labelled(who: str, **splits: Split) -> None:
    """Raises ValueError where a split, named by its keyword, holds no labelled sample."""
    for name, split in splits.items():
        if len(split.y) == 0:
            raise ValueError(f"the {name} holds no labelled sample; give it some or leave {who} out")


def require_neighbours(k: int, bank: Split, protocol: str) -> None:
    """Raises ValueError where a bank has fewer than k samples to vote."""
    if k > len(bank.y):
        raise ValueError(f"k is {k} and the bank holds {len(bank.y)} samples; use evaluator.{protocol}.k={len(bank.y)}")


def require_finite(*features: Float[Tensor, ...]) -> None:
    """Raises FloatingPointError where a feature is infinite or not a number."""
    if not all(bool(each.isfinite().all()) for each in features):
        raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
