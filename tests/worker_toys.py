"""Rows that worker processes read, and that do what a test asks of them. What a process unpickles, it must import."""

import logging
import os
import signal
from dataclasses import dataclass

import torch

from ssl_runner.contract import Samples
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.loader import Loader

IMAGES = Samples("image", (3, 2, 2))


@dataclass(frozen=True)
class Numbered:
    """Each row is its number in every pixel. At row `bad` a process does what `how` says."""

    n: int = 50
    processes: int = 2
    bad: int = -1
    how: str = ""
    side: int = 2

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if (index == self.bad).any():
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "refused":
                raise ValueError("a remedy")
            if self.how == "broken":
                raise KeyError("a bug")
            logging.getLogger("ssl_runner").warning("row %d is odd", self.bad)
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, self.side, self.side).contiguous()


def loader(rows, *, batch_size=8, epochs=2.0, **how):
    length = Length.of(Duration(epochs, "ep"), len(rows), batch_size)
    return Loader(rows, IMAGES, length=length, seed=0, device=torch.device("cpu"), **how)


def kept_values(cached):
    """How many values a function with a cache has kept in this process."""
    return cached.cache_info().currsize
