"""Targets of labelled rows: the class of each, or a further target by its name."""

import torch
from torch import Tensor

from ssl_runner.contract import Split


def read_target(split: Split, name: str | None) -> Tensor:
    """Classes int (n,), numbers float (n, ...), or several labels at once bool (n, k); None is the class of a row.

    Raises ValueError with the names that are possible.
    """
    possible = ", ".join(split.targets)
    if name is None and split.y is None:
        raise ValueError(f"target: the rows have no class; possible are {possible or 'none'}")
    if name is not None and name not in split.targets:
        instead = f"possible are {possible}, and" if possible else "the dataset knows no further targets; type"
        raise ValueError(f"target: given {name}; {instead} null for the class")
    return split.targets[name] if name is not None else split.y  # type: ignore[return-value]


def is_class(target: Tensor) -> bool:
    return not target.is_floating_point() and target.dtype != torch.bool


def headline_of(target: Tensor) -> str:
    """The score that stands for a target: `top1` of classes, `r2` of numbers, `map` of several labels."""
    return "top1" if is_class(target) else "r2" if target.is_floating_point() else "map"


def count_classes(*targets: Tensor) -> int:
    """One more than the largest class."""
    return 1 + max(int(each.max()) for each in targets)
