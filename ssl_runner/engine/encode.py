"""Encoding rows of a data set: pooled features, each row once an evaluation."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Encoder, Rows, Samples
from ssl_runner.engine.rows import fetch

READ_BATCH = 512
CACHED_BATCH = 32  # on a CPU: maps of more leave its cache, and large ones cost new pages each time


def encoder_of(encoder: Encoder, samples: Samples, device: torch.device) -> Callable[[Rows], Float[Tensor, "n d"]]:
    """Rows to pooled features on the device; rows that are asked for again are not encoded again."""
    at_once = CACHED_BATCH if device.type == "cpu" else READ_BATCH
    known: dict[int, tuple[Rows, Tensor]] = {}  # the rows are held so that their id stays theirs

    def encode(rows: Rows) -> Float[Tensor, "n d"]:
        if id(rows) not in known:
            parts = [
                encoder(samples.from_rows(part)).pooled.float()
                for index in torch.arange(len(rows)).split(READ_BATCH)
                for part in fetch(rows, index).to(device).split(at_once)
            ]
            known[id(rows)] = (rows, torch.cat(parts))
        return known[id(rows)][1]

    return encode
