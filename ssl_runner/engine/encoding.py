"""Encoding of rows for evaluators: pooled features of an encoder, and raw features, of all ranks in one pass."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Rows, Samples
from ssl_runner.device import ranks
from ssl_runner.duration import Phase
from ssl_runner.engine.loader import fetch
from ssl_runner.layers.gather import gather

READ_BATCH = 512
CACHED_BATCH = 32  # on a CPU: maps of more leave its cache, and large ones cost new pages each time


class Encoding:
    """Rows to pooled features on the device, and to raw features, in one pass whose result is kept.

    Each rank encodes its share, in the batches that one process would make, and then has the features of all rows.
    """

    def __init__(
        self, encoder: Encoder, samples: Samples, device: torch.device, plain: Callable[[Tensor], Tensor] | None = None
    ):
        self.encoder, self.samples, self.device, self.plain = encoder, samples, device, plain
        # by the id of rows, which are held so that it stays theirs
        self._known: dict[int, tuple[Rows, Tensor, Tensor | None]] = {}

    def __call__(self, rows: Rows) -> Float[Tensor, "n d"]:
        return self._encode(rows)[1]

    def raw(self, rows: Rows) -> Float[Tensor, "n d"]:
        """Without the encoder, see probing/raw_features.py."""
        raw = self._encode(rows)[2]
        assert raw is not None
        return raw

    def _encode(self, rows: Rows) -> tuple[Rows, Tensor, Tensor | None]:
        if id(rows) not in self._known:
            at_once = CACHED_BATCH if self.device.type == "cpu" else READ_BATCH
            n, batches = len(rows), torch.arange(len(rows)).split(READ_BATCH)
            each = math.ceil(len(batches) / ranks.count())  # the last ranks may have fewer, or none
            parts, plain, own = [], [], batches[each * ranks.rank() : each * (ranks.rank() + 1)]
            with Phase("encoding", sum(map(len, own)), "samples") as phase:
                for part in (part for index in own for part in fetch(rows, index).to(self.device).split(at_once)):
                    x = self.samples.from_rows(part)
                    parts.append(self.encoder(x).pooled.float())
                    if self.plain is not None:
                        plain.append(self.plain(x))
                    phase.advance(len(part))
            share = min(n, each * READ_BATCH)
            raw = None if self.plain is None else gather_rows(plain, n, share, self.raw_dim, self.device)
            self._known[id(rows)] = (rows, gather_rows(parts, n, share, self.encoder.dim, self.device), raw)
        return self._known[id(rows)]

    @property
    def raw_dim(self) -> int:
        assert self.plain is not None
        return self.plain(self.samples.example(1, torch.Generator().manual_seed(0))).shape[1]


def gather_rows(parts: Sequence[Tensor], n: int, share: int, dim: int, device: torch.device) -> Float[Tensor, "n d"]:
    """The n rows of all ranks, of which each has the next `share`, or what is left."""
    if ranks.count() == 1:
        return torch.cat([*parts])
    own = torch.cat([*parts, torch.empty(0, dim, device=device)])
    return gather(F.pad(own, (0, 0, 0, share - len(own))))[:n]
