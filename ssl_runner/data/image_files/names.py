"""File names in one piece of memory, which torch shares with worker processes: a million strings are 100 MB in each."""

import os
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch


class Names(Sequence[str]):
    """A list of names that cannot be changed."""

    def __init__(self, names: Sequence[str]):
        encoded = [os.fsencode(name) for name in names]
        self.bytes = torch.from_numpy(np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8))
        self.ends = torch.tensor([0, *map(len, encoded)]).cumsum(0)

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        place = range(len(self))[index]  # IndexError beyond the ends
        first, last = self.ends[place : place + 2].tolist()
        return os.fsdecode(self.bytes[first:last].numpy().tobytes())
