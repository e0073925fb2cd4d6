"""Running averages of logged numbers between two log lines, kept on the device."""

import time
from collections.abc import Iterator, Mapping
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
        self.counts: dict[str, int] = {}
        self.steps = 0
        self._opened = time.perf_counter()
        self._paused = 0.0

    def add(self, numbers: Mapping[str, Float[Tensor, ""]]) -> None:
        """The numbers of one step; each is averaged over the steps that have it."""
        for name, value in numbers.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1

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
        values = [value.float() / self.counts[name] for name, value in self.sums.items()]
        return dict(zip(self.sums, torch.stack(values).tolist(), strict=True)) if values else {}
