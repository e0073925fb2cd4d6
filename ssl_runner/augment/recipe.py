"""Recipe of views: what a task mounts, whatever kind of sample it is of."""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ssl_runner.contract import Kind, Rng


@runtime_checkable
class Recipe(Protocol):
    """Makes one view of each sample, every sample by its own draw. Padding stays padding, and comes last.

    A task that takes several kinds annotates its recipes so, and one of images alone by `augment.image.views.Views`.
    """

    kinds: ClassVar[tuple[Kind, ...]]  # what it can be given

    def __call__(self, x: Tensor, rng: Rng) -> Tensor: ...
