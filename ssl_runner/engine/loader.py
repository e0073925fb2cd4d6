"""Data loader: batches of training rows by step. Their order is a function of (seed, step)."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ssl_runner.contract import Batch, Rows, Samples
from ssl_runner.device.ranks import rows_of_rank
from ssl_runner.duration import Length
from ssl_runner.engine.rows import fetch, pinned, resident, send
from ssl_runner.engine.seed import permutation


class Loader:
    """Batches of a training set by step.

    A set that fits is one tensor on the training device. A larger one is fetched by a thread while the step before it
    is learnt from. An epoch is a fresh permutation of the rows; the last, incomplete batch of it is dropped.
    `waited` counts the seconds that training stood still for data.
    """

    def __init__(
        self, rows: Rows, samples: Samples, *, length: Length, seed: int, device: torch.device, accumulate: int = 1
    ):
        if length.batch_size % accumulate:
            raise ValueError(f"batch_size={length.batch_size} does not divide into accumulate={accumulate}")
        self.rows, self.samples, self.length, self.seed = rows, samples, length, seed
        self.device, self.accumulate = device, accumulate
        self.resident = resident(rows, device)
        self.waited = 0.0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._thread = None if self.resident is not None else ThreadPoolExecutor(1, "fetch")
        self._ahead: tuple[int, Future] | None = None

    def index(self, step: int) -> Tensor:
        """(batch_size,) int64 rows of a step, where the rows are: on the device, or on the CPU to be fetched."""
        epoch, place = divmod(step, self.length.steps_per_epoch)
        if self._order[0] != epoch:
            order = permutation(len(self.rows), self.seed, epoch)
            self._order = (epoch, order if self.resident is None else send(order, self.device))
        size = self.length.batch_size
        return rows_of_rank(self._order[1][place * size : (place + 1) * size])

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        started = time.perf_counter()
        index = self.index(step)
        if self.resident is not None:
            raw = fetch(self.resident, index)
        else:
            raw, index = self._fetch(step, index), send(index, self.device)
        size = len(index) // self.accumulate
        pairs = zip(raw.split(size), index.split(size), strict=True)
        batches = [Batch(self.samples.from_rows(x), rows) for x, rows in pairs]
        self.waited += time.perf_counter() - started
        return batches

    def sweep(self) -> Iterator[Batch]:
        """The whole training set in row order, the last batch being what is left."""
        for index in torch.arange(len(self.rows)).split(self.length.batch_size):
            there = send(index, self.device)
            raw = fetch(self.rows, index).to(self.device) if self.resident is None else fetch(self.resident, there)
            yield Batch(self.samples.from_rows(raw), there)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _fetch(self, step: int, index: Tensor) -> Tensor:
        assert self._thread is not None
        fetched = self._ahead is not None and self._ahead[0] == step
        raw = self._ahead[1].result() if fetched else self._read(index)  # type: ignore[index]
        self._ahead = (step + 1, self._thread.submit(self._read, self.index(step + 1)))
        return send(raw, self.device)

    def _read(self, index: Tensor) -> Tensor:
        return pinned(fetch(self.rows, index), self.device)
