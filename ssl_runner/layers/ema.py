"""A teacher that follows its student: an exponential moving average of its weights."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy, equal to `module` now, that wants no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float | Float[Tensor, ""]) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, in place; buffers (batch norm statistics) are copied.

    `momentum` is in [0, 1]; at 1 the weights stay as they are, at 0 they become the student's, both exactly. Raises
    ValueError where the two differ in their number of parameters or buffers.
    """
    ours, theirs = list(teacher.parameters()), list(student.parameters())
    if len(ours) != len(theirs):
        raise ValueError(
            f"the teacher has {len(ours)} parameters and its student {len(theirs)}; use frozen_copy(student)"
        )
    if ours:  # foreach refuses an empty list
        share = 1 - momentum
        torch._foreach_lerp_(ours, theirs, [share] * len(ours) if isinstance(share, Tensor) else share)
    for buffer, source in zip(teacher.buffers(), student.buffers(), strict=True):
        buffer.copy_(source)
