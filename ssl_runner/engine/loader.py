"""Rows to batches: the order, the place in it and the device, all functions of (seed, step)."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ssl_runner.contract import Batch, Rows
from ssl_runner.engine.seed import permutation

RESIDENT_SHARE = 0.4  # of the device's free memory that a training set may take; a larger one is fetched batch by batch
RESIDENT_BYTES = 8 * 2**30  # the same on a CPU or MPS, where free memory is not the process's alone


class Loader:
    """Batches of a training set by step.

    A set that fits is one tensor on the training device. A larger one is fetched by a thread while the step before it
    is learnt from. An epoch is a fresh permutation of the rows; the last, incomplete batch of it is dropped.
    `waited` counts the seconds that training stood still for data.
    """

    def __init__(self, rows: Rows, *, batch_size: int, seed: int, device: torch.device, accumulate: int = 1):
        if batch_size > len(rows):
            raise ValueError(f"batch_size={batch_size} is larger than the {len(rows)} training rows")
        if batch_size % accumulate:
            raise ValueError(f"batch_size={batch_size} does not divide into accumulate={accumulate} micro-batches")
        self.rows, self.batch_size, self.seed, self.device, self.accumulate = rows, batch_size, seed, device, accumulate
        self.steps_per_epoch = len(rows) // batch_size
        self.resident = resident(rows, device)
        self.waited = 0.0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._thread = None if self.resident is not None else ThreadPoolExecutor(1, "fetch")
        self._ahead: tuple[int, Future] | None = None

    def index(self, step: int) -> Tensor:
        """(batch_size,) int64 rows of a step, where the rows are: on the device, or on the CPU to be fetched."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            order = permutation(len(self.rows), self.seed, epoch)
            self._order = (epoch, order if self.resident is None else sent(order, self.device))
        return self._order[1][place * self.batch_size : (place + 1) * self.batch_size]

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        started = time.perf_counter()
        index = self.index(step)
        if self.resident is not None:
            raw = taken(self.resident, index)
        else:
            raw, index = self._fetch(step, index), sent(index, self.device)
        batches = [Batch(samples(x), i) for x, i in zip(self._split(raw), self._split(index), strict=True)]
        self.waited += time.perf_counter() - started
        return batches

    def sweep(self) -> Iterator[Batch]:
        """The whole training set in row order, the last batch being what is left."""
        for index in torch.arange(len(self.rows)).split(self.batch_size):
            there = sent(index, self.device)
            raw = taken(self.rows, index).to(self.device) if self.resident is None else taken(self.resident, there)
            yield Batch(samples(raw), there)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _fetch(self, step: int, index: Tensor) -> Tensor:
        assert self._thread is not None
        fetched = self._ahead is not None and self._ahead[0] == step
        raw = self._ahead[1].result() if fetched else self._read(index)  # type: ignore[index]
        self._ahead = (step + 1, self._thread.submit(self._read, self.index(step + 1)))
        return sent(raw, self.device)

    def _read(self, index: Tensor) -> Tensor:
        return pinned(taken(self.rows, index), self.device)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self.batch_size // self.accumulate)


def pinned(x: Tensor, device: torch.device) -> Tensor:
    """From where a GPU can fetch it while the host goes on."""
    return x.pin_memory() if device.type == "cuda" else x


def sent(x: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it to arrive."""
    return pinned(x, device).to(device, non_blocking=device.type == "cuda")


def taken(rows: Rows, index: Tensor) -> Tensor:
    """rows[index]; of a tensor in a fifth of the time on a CPU, since whole rows are copied."""
    return rows.index_select(0, index) if isinstance(rows, Tensor) else rows[index]


def samples(raw: Tensor) -> Tensor:
    """Rows as a pretext task sees them: uint8 images become float32 in [0, 1], all else stays as it is."""
    return raw.float().div_(255) if raw.dtype == torch.uint8 else raw


def resident(rows: Rows, device: torch.device) -> Tensor | None:
    """All rows as one tensor on the device, or None where they would take too much of its memory."""
    one = rows[torch.arange(1)]
    size = len(rows) * one.numel() * one.element_size()
    room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else RESIDENT_BYTES
    if size > room:
        return None
    if isinstance(rows, Tensor):
        return rows.to(device)
    whole = torch.empty((len(rows), *one.shape[1:]), dtype=one.dtype, device=device)
    for index in torch.arange(len(rows)).split(4096):
        whole[index[0] : index[-1] + 1] = rows[index].to(device)
    return whole
