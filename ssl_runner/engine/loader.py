"""Data loader: batches of training rows by step, in an order that is a function of (seed, step)."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ssl_runner.contract import Batch, Rows, Samples
from ssl_runner.data.machine import available_memory
from ssl_runner.data.order import epoch_order
from ssl_runner.device.ranks import count, rows_of_rank
from ssl_runner.duration import Length
from ssl_runner.engine.seed import derive
from ssl_runner.engine.workers import Workers

RESIDENT_SHARE = 0.4  # of the device's free memory that a training set may take; a larger one is fetched batch by batch
RESIDENT_BYTES = 8 * 2**30  # at most, on a CPU or MPS, where free memory is not the process's alone


class Loader:
    """Batches of a training set by step.

    A set that fits is one tensor on the training device. A larger one is fetched by a thread while the step before it
    is learnt from, and one that is decoded on demand by processes. An epoch is a fresh permutation of the rows; the
    last, incomplete batch of it is dropped.

    stored: the same rows in more pixels, which batches then have.
    """

    def __init__(
        self,
        rows: Rows,
        samples: Samples,
        *,
        length: Length,
        seed: int,
        device: torch.device,
        accumulate: int = 1,
        stored: Rows | None = None,
    ):
        if length.batch_size % accumulate:
            raise ValueError(f"batch_size={length.batch_size} does not divide into accumulate={accumulate}")
        self.rows, self.samples, self.length, self.seed = rows, samples, length, seed
        self.device, self.accumulate = device, accumulate
        self.learnt = rows if stored is None else stored
        processes = getattr(self.learnt, "processes", None)
        self.resident = resident(self.learnt, device) if processes is None else None
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._workers = self._thread = None
        if processes:
            size, pinned = length.batch_size // count(), device.type == "cuda"
            self._workers = Workers(self.learnt, self.index, batch_size=size, last=length.steps, pinned=pinned)
        elif self.resident is None:
            self._thread = ThreadPoolExecutor(1, "fetch")
        self._ahead: tuple[int, Future | None] = (-1, None)

    def index(self, step: int) -> Tensor:
        """(batch_size,) int64 rows of a step, where the rows are: on the device, or on the CPU to be fetched."""
        epoch, place = divmod(step, self.length.steps_per_epoch)
        if self._order[0] != epoch:
            rng = torch.Generator().manual_seed(derive(self.seed, "shuffle", epoch))
            wanted = self.length.steps_per_epoch * self.length.batch_size
            passes = -(-wanted // len(self.rows))  # more than one if a run goes on with fewer rows than it began with
            order = torch.cat([epoch_order(self.learnt, rng) for _ in range(passes)])
            self._order = (epoch, order if self.resident is None else send(order, self.device))
        size = self.length.batch_size
        return rows_of_rank(self._order[1][place * size : (place + 1) * size], self.accumulate)

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        index, raw = self._rows(step)
        size = len(index) // self.accumulate
        pairs = zip(raw.split(size), index.split(size), strict=True)
        return [Batch(self.samples.from_rows(x), rows) for x, rows in pairs]

    def sweep(self) -> Iterator[Batch]:
        """The whole training set in row order, in parts of about one size: a batch norm could not take a last row."""
        parts = math.ceil(len(self.rows) / self.length.batch_size)
        for index in torch.arange(len(self.rows)).tensor_split(parts):
            there = send(index, self.device)
            if self.resident is not None and self.learnt is self.rows:
                raw = fetch(self.resident, there)
            else:
                raw = fetch(self.rows, index).to(self.device)
            yield Batch(self.samples.from_rows(raw), there)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        if self._workers is not None:
            self._workers.close()

    def _rows(self, step: int) -> tuple[Tensor, Tensor]:
        """Row numbers and rows of a step, on the device."""
        if self._workers is not None and (parts := self._workers.take(step)) is not None:
            index, raw = (torch.cat([send(part, self.device) for part in each]) for each in zip(*parts, strict=True))
            return index, raw
        index = self.index(step)
        if self.resident is not None:
            return index, fetch(self.resident, index)
        return send(index, self.device), send(self._fetch(step, index), self.device)

    def _fetch(self, step: int, index: Tensor) -> Tensor:
        if self._thread is None:  # a step once more, which the processes have gone beyond
            return self._read(index)
        ahead, future = self._ahead
        raw = future.result() if future is not None and ahead == step else self._read(index)
        self._ahead = (step + 1, self._thread.submit(self._read, self.index(step + 1)))
        return raw

    def _read(self, index: Tensor) -> Tensor:
        return pinned(fetch(self.learnt, index), self.device)


def fetch(rows: Rows, index: Tensor) -> Tensor:
    """rows[index]; of a tensor in a fifth of the time on a CPU, since whole rows are copied."""
    return rows.index_select(0, index) if isinstance(rows, Tensor) else rows[index]


def pinned(x: Tensor, device: torch.device) -> Tensor:
    """In page-locked memory if the device is a GPU, which then fetches it while the host goes on."""
    return x.pin_memory() if device.type == "cuda" else x


def send(x: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it to arrive."""
    return pinned(x, device).to(device, non_blocking=device.type == "cuda")


def resident(rows: Rows, device: torch.device) -> Tensor | None:
    """All rows as one tensor on the device, or None if they would take too much of its memory."""
    one = rows[torch.arange(1)]
    if device.type == "cuda":
        room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    else:  # a tensor is there already, and what is not takes half of the memory at most, of all processes
        room = RESIDENT_BYTES if isinstance(rows, Tensor) else min(RESIDENT_BYTES, available_memory() / 2 / count())
    if len(rows) * one.numel() * one.element_size() > room:
        return None
    if isinstance(rows, Tensor):
        return rows.to(device)
    whole = torch.empty((len(rows), *one.shape[1:]), dtype=one.dtype, device=device)
    for index in torch.arange(len(rows)).split(4096):
        whole[index[0] : index[-1] + 1] = rows[index].to(device)
    return whole
