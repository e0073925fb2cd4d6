"""Rows of samples: stratified splits, subsets by index, channel statistics and fingerprints."""

import hashlib
import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from jaxtyping import Int, Shaped
from torch import Tensor

from ssl_runner.contract import Rows
from ssl_runner.data.order import Stretches

CHUNK = 4_000_000  # numbers read at a time
SAMPLED = 4  # stretches, as of shards, from which rows are taken to measure or check all
LEVELS = {torch.uint8: 255, torch.int16: 32768}  # of stored rows, by type: what a sample of 1 is
HASHED = 1000  # rows, evenly spaced, whose values are part of a fingerprint where reading all would take an epoch
Share = Annotated[float, Interval(ge=0, lt=1)]  # of every class that is held out, the same of each; 0 for none


def held_out_count(count: int, share: float) -> int:
    """How many rows of a class of `count` are held out: at least one and not all, if there are two or more."""
    return 0 if count < 2 or share == 0 else min(max(round(share * count), 1), count - 1)


def stratified_split(y: Int[Tensor, " n"], share: float, seed: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " h"]]:
    """Sorted rows of the rest and of the held-out part, the same share of every class.

    The draw has a generator of its own: it depends on `y`, `share` and `seed`, never on the seed of a run.
    A class of one row stays in the rest.
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    by_class = order[y.cpu()[order].argsort(stable=True)]  # in each class as drawn
    held = torch.zeros(len(y), dtype=torch.bool)
    for rows in by_class.split(y.cpu().unique(return_counts=True)[1].tolist()):
        held[rows[: held_out_count(len(rows), share)]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


@dataclass(frozen=True, eq=False)
class Subset:
    """Rows of `rows` by index, read when asked for and never copied before."""

    rows: Rows
    index: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Int[Tensor, " b"]) -> Tensor:
        return self.rows[self.index[index]]

    @property
    def processes(self) -> int:
        """Of rows that are decoded on demand: see engine/workers.py. AttributeError for others."""
        return self.rows.processes  # type: ignore[attr-defined]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape of a sample), as of a tensor."""
        return (len(self), *self.rows[self.index[:0]].shape[1:])

    @property
    def stretches(self) -> Stretches | None:
        whole: Stretches | None = getattr(self.rows, "stretches", None)
        return whole and whole.subset(self.index)


def statistics(rows: Rows, limit: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel of rows as samples, on at most `limit` evenly spaced rows.

    Rows are images as uint8, samples of which are in [0, 1], or audio as int16, in [-1, 1]. A deviation is never below
    one step of these, so that normalising a constant channel divides by no zero.
    Raises ValueError if there are no rows, or if they are of another type.
    """
    if len(rows) == 0:
        raise ValueError("there are no rows to take the mean of; give at least one")
    index = evenly_spaced(rows, limit)
    total = square = torch.zeros((), dtype=torch.int64)  # whole numbers: their sum has no order
    numbers = 0
    for part in index.split(rows_at_a_time(rows)):
        x = rows[part]
        if x.dtype not in LEVELS:
            raise ValueError(f"the rows are {x.dtype}; their mean is taken of torch.uint8 or torch.int16")
        x = x.cpu().transpose(0, 1).flatten(1).to(torch.int32)  # (C, B * H * W)
        total, square = total + x.sum(1), square + x.square().sum(1)
        numbers += x.shape[1]
    mean = total.double() / numbers
    variance = (square.double() / numbers - mean.square()).clamp(min=0)
    deviation, levels = variance.sqrt().clamp(min=1), LEVELS[rows[index[:1]].dtype]
    return tuple((mean / levels).tolist()), tuple((deviation / levels).tolist())


def wrap_array(array: Shaped[np.ndarray, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """A tensor on a read-only array, without a copy. Writing to it ends the process: rows are to be indexed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def evenly_spaced(rows: Rows, most: int) -> Int[Tensor, " k"]:
    """At most so many of the rows, in order: of all, or of a few stretches, since each may have to be downloaded."""
    stretches: Stretches | None = getattr(rows, "stretches", None)
    index = torch.arange(len(rows))
    if stretches is not None and int((stretches.sizes > 0).sum()) > SAMPLED:
        full = stretches.sizes.nonzero().flatten()
        sampled = full[torch.arange(SAMPLED) * len(full) // SAMPLED]
        index = index[torch.isin(stretches.of_rows(index), sampled)]
    count = min(len(index), most)
    return index[torch.arange(count) * len(index) // max(1, count)]


def fingerprint(*parts: Rows) -> str:
    """Hex digest of the bytes, shapes and types of tensors or rows; equal rows give equal ones on any device."""
    digest = hashlib.blake2b(digest_size=16)
    for rows in parts:
        empty = rows[torch.zeros(0, dtype=torch.int64)]
        digest.update(f"{(len(rows), *empty.shape[1:])} {empty.dtype};".encode())
        step = rows_at_a_time(rows)
        for start in range(0, len(rows), step):
            stop = min(start + step, len(rows))
            x = rows[start:stop] if isinstance(rows, Tensor) else rows[torch.arange(start, stop)]
            digest.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def rows_at_a_time(rows: Rows) -> int:
    """How many rows hold about CHUNK numbers."""
    return max(1, CHUNK // max(1, rows[torch.arange(min(1, len(rows)))].numel()))
