"""Rows of ids without the columns in which all have padding: what a short batch need not compute."""

from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

MULTIPLE = 8  # of which widths are: few shapes, for compilers and caches
Columns = TypeVar("Columns", bound=Tensor)


def width_of(x: Int[Tensor, "b n"]) -> int:
    """Columns up to the last token of the longest row, rounded up. On a GPU to ask would be to wait: all of them."""
    if x.device.type != "cpu":
        return x.shape[1]
    return min(x.shape[1], -(-last_token(x) // MULTIPLE) * MULTIPLE)


def last_token(x: Int[Tensor, "b n"]) -> int:
    """The place after it, in any row; at least one."""
    return max(1, int((x != 0).any(0).nonzero().amax()) + 1) if x.any() else 1
