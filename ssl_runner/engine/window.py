"""The numbers between two log lines, averaged on the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


class Window:
    """Sums of scalars over steps, and the seconds that went into these steps.

    Nothing here waits for the device until `close` is called.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.shares: dict[str, float] = {}
        self.last: dict[str, Tensor] = {}
        self.steps = 0
        self._opened = time.perf_counter()
        self._paused = 0.0

    def add(self, name: str, value: Float[Tensor, ""], share: float = 1.0) -> None:
        """Adds to a number that is averaged over the steps in which it was added; `share` is a micro-batch's."""
        value = value.detach().float() * share  # under autocast it may be bf16, where 256 + 1 is 256
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.shares[name] = self.shares.get(name, 0.0) + share

    def set(self, name: str, value: Float[Tensor, ""]) -> None:
        """A number of the last step alone."""
        self.last[name] = value.detach()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves evaluation and saving out of the seconds."""
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._opened - self._paused

    def close(self) -> dict[str, float]:
        """The averages, in one transfer from the device, in the order in which they were first seen."""
        values = {name: value / self.shares[name] for name, value in self.sums.items()} | self.last
        if not values:
            return {}
        return dict(zip(values, torch.stack([v.float() for v in values.values()]).tolist(), strict=True))
