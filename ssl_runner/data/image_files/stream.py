"""Images that are decoded when they are asked for, for sets that fit on no disk a second time."""

import logging

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.data.image_files.index import Source
from ssl_runner.data.image_files.unreadable import described, limit

logger = logging.getLogger("ssl_runner")


class Stream:
    """Rows that are decoded at each request. An unreadable file is a grey image: a promised row has to be there.

    Raises:
        ValueError: in a request, more than `max_broken` files have been found to be unreadable.
    """

    def __init__(self, source: Source, max_broken: int):
        self.source = source
        self.max_broken = max_broken
        self.broken: dict[int, str] = {}  # why, by row

    def __len__(self) -> int:
        return len(self.source.files)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        asked = index.tolist()
        rows, broken = self.source.reader.batch(self.source.paths(asked))
        new = {asked[i]: why for i, why in broken.items() if asked[i] not in self.broken}
        self.broken |= new
        for name in described(self.source.files, new):
            logger.warning("cannot read %s: it is a grey image", name)
        limit(self.source.files, self.broken, self.max_broken)
        return torch.from_numpy(rows)
