"""Rows decoded on demand, for sets of image files that fit on no disk a second time."""

import logging

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.data.image_files.index import Source
from ssl_runner.data.image_files.unreadable import describe, require_few

logger = logging.getLogger("ssl_runner")


class Stream:
    """Rows that are decoded at each request. An unreadable file is a grey image: a promised row must be there.

    A request raises ValueError once more than `max_broken` files have been unreadable.
    """

    def __init__(self, source: Source, max_broken: int):
        self.source = source
        self.max_broken = max_broken
        self.broken: dict[int, str] = {}  # why, by row

    def __len__(self) -> int:
        return len(self.source.files)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        positions = index.tolist()
        rows, broken = self.source.reader.read_batch(self.source.paths(positions))
        new = {positions[i]: why for i, why in broken.items() if positions[i] not in self.broken}
        self.broken |= new
        for name in describe(self.source.files, new):
            logger.warning("cannot read %s: it is a grey image", name)
        require_few(self.source.files, self.broken, self.max_broken)
        return torch.from_numpy(rows)
