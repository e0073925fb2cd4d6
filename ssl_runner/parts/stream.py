"""Images that are decoded when they are asked for, for sets that fit on no disk a second time."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.parts.cache import printable, too_many
from ssl_runner.parts.image import Reader

logger = logging.getLogger("ssl_runner")


class Stream:
    """Rows that are decoded at each request. An unreadable file is a grey image: a promised row has to be there.

    Raises:
        ValueError: in a request, more than `max_broken` files have been found to be unreadable.
    """

    def __init__(self, root: Path, files: Sequence[str], reader: Reader, max_broken: int):
        self.root = root
        self.files = files
        self.reader = reader
        self.max_broken = max_broken
        self.broken: dict[int, str] = {}  # why, by row

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        asked = index.tolist()
        rows, broken = self.reader.batch([self.root / self.files[i] for i in asked])
        for position, why in broken.items():
            row = asked[position]
            if row not in self.broken:
                self.broken[row] = f"{printable(self.files[row])} ({why})"
                logger.warning("cannot read %s: it is a grey image", self.broken[row])
        if len(self.broken) > self.max_broken:
            raise too_many(list(self.broken.values()), self.max_broken)
        return torch.from_numpy(rows)
