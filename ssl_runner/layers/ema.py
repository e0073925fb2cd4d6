"""Teacher that follows its student: an exponential moving average of its weights."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.contract import Suspect


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy, equal to `module` now, that wants no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


def momentum_at(start: float, progress: float) -> float:
    """Teacher momentum that rises from `start` to 1 along a cosine, at a share of the run in [0, 1].

    1 - (1 - start) (cos(pi progress) + 1) / 2: section 3.3 of BYOL (arXiv 2006.07733).
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def suspect_momentum(momentum: float, usual: float, name: str = "momentum") -> list[Suspect]:
    """A suspect if a teacher keeps less than 0.9 of itself in a step; `usual` is what to type, `name` the setting."""
    if momentum >= 0.9:
        return []
    cause = f"pretext.{name}={momentum:g}, the teacher follows its student too fast"
    return [Suspect(cause, f"pretext.{name}={usual:g}", 0.8 - 0.5 * momentum)]


@torch.no_grad()
def follow(
    teacher: nn.Module, student: nn.Module, momentum: float | Float[Tensor, ""], *, copy_buffers: bool = True
) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, in place.

    `momentum` is in [0, 1]; at 1 the weights stay as they are, at 0 they become the student's, both exactly. Buffers
    are copied; without `copy_buffers` they are left alone, so batch norm keeps the statistics of what the teacher saw.
    Raises ValueError if the two differ in their number of parameters or buffers.
    """
    ours, theirs = list(teacher.parameters()), list(student.parameters())
    if len(ours) != len(theirs):
        counts = f"the teacher has {len(ours)} parameters and its student {len(theirs)}"
        raise ValueError(f"{counts}; use frozen_copy(student)")
    if ours:  # foreach refuses an empty list
        share = 1 - momentum
        torch._foreach_lerp_(ours, theirs, [share] * len(ours) if isinstance(share, Tensor) else share)
    if copy_buffers:
        for buffer, source in zip(teacher.buffers(), student.buffers(), strict=True):
            buffer.copy_(source)
