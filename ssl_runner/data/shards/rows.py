"""Rows of images in shards: fetched whole, ahead of the order in which they are wanted, and decoded on demand."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.data.image_files.source import Source
from ssl_runner.data.order import Stretches
from ssl_runner.data.shards.fetch import Fetcher, OpenShard
from ssl_runner.data.shards.index import Index

AHEAD = 2  # shards that are fetched before they are wanted
SPARE = 2  # shards that stay open beside those of the window and the next ones


class SampleNames(Sequence):
    """What a row is called in messages: its shard, and its place in it."""

    def __init__(self, index: Index, ends: np.ndarray):
        self.index, self.ends = index, ends

    def __len__(self) -> int:
        return len(self.index.table)

    def __getitem__(self, row: Any) -> Any:
        shard = int(np.searchsorted(self.ends, row, side="right"))
        first = int(self.ends[shard - 1]) if shard else 0
        return f"{self.index.shards[shard].name}, sample {row - first}"


class Shelf:
    """Open shards by number, and those that threads are opening."""

    def __init__(self, fetcher: Fetcher, index: Index, room: int, expected: Int[Tensor, " k"]):
        self.fetcher, self.index, self.room = fetcher, index, room
        self.expected = expected  # numbers in the order in which they will be wanted, then -1; shared among processes
        self.opened: OrderedDict[int, Future[OpenShard]] = OrderedDict()
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return Shelf, (self.fetcher, self.index, self.room, self.expected)

    def expect(self, numbers: Sequence[int]) -> None:
        self.expected.fill_(-1)[: len(numbers)] = torch.tensor(numbers)

    def start(self, number: int) -> Future[OpenShard]:
        """Opens a shard in a thread of its own, if that has not begun; none outlives the process."""
        with self.lock:
            if number in self.opened:
                self.opened.move_to_end(number)
                return self.opened[number]
            future = self.opened[number] = Future()
            while len(self.opened) > self.room:
                self.opened.popitem(last=False)
        threading.Thread(target=self.run, args=(number, future), daemon=True, name=f"shard {number}").start()
        return future

    def run(self, number: int, future: Future[OpenShard]) -> None:
        try:
            future.set_result(self.fetcher.open(self.index.shards[number]))
        except BaseException as error:
            with self.lock:
                if self.opened.get(number) is future:  # a later request tries again
                    del self.opened[number]
            future.set_exception(error)

    def after(self, numbers: Sequence[int], in_order: bool) -> list[int]:
        """The next shards after those of a request: by number, or in the order that is expected."""
        order = range(len(self.index.shards)) if in_order else self.expected.tolist()
        last = max((order.index(number) for number in numbers if number in order), default=len(order))
        return [number for number in order[last + 1 : last + 1 + AHEAD] if number >= 0]


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardRows(Source):
    """All samples of an index, a row each. Whole shards are fetched by threads: those that a request needs, then the
    next ones in the order that was announced by `stretches.expect`, or in that of the rows if the request is.

    Raises OSError for a shard that cannot be fetched; an image that cannot be read is grey, as of any Source."""

    root: Path = field(init=False, default=Path())
    files: Sequence[str] = field(init=False)  # what rows are called in messages
    index: Index
    fetcher: Fetcher
    window: int  # shards of which rows are mixed
    ends: np.ndarray = field(init=False)
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum([shard.samples for shard in self.index.shards], dtype=np.int64)
        expected = torch.full((len(self.index.shards),), -1)
        shelf = Shelf(self.fetcher, self.index, self.window + AHEAD + SPARE, expected)
        for name, value in {"ends": ends, "shelf": shelf, "files": SampleNames(self.index, ends)}.items():
            object.__setattr__(self, name, value)
        super().__post_init__()

    @property
    def stretches(self) -> Stretches:
        sizes = torch.tensor([shard.samples for shard in self.index.shards])
        return Stretches(sizes, self.window, self.shelf.expect)

    def read(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "b c s s"], dict[int, str]]:
        shard_of = np.searchsorted(self.ends, rows, side="right")
        numbers = np.unique(shard_of).tolist()
        if len(numbers) > self.window + SPARE:
            return self.read_in_turn(rows, shard_of, numbers)
        futures = [self.shelf.start(number) for number in numbers]
        # As of a sweep; the rows of an epoch hardly ever ascend, and those that are measured do not lie close together.
        in_order = len(rows) > 1 and bool((np.diff(rows) > 0).all()) and rows[-1] - rows[0] < 2 * len(rows)
        for number in self.shelf.after(numbers, in_order):
            self.shelf.start(number)
        for shard in [future.result() for future in futures]:
            if shard.cached:
                os.utime(shard.file)  # what the cache removes first was not used for the longest time
        return super().read(rows)

    def read_in_turn(
        self, rows: Sequence[int], shard_of: Int[np.ndarray, " b"], numbers: Sequence[int]
    ) -> tuple[UInt8[np.ndarray, "b c s s"], dict[int, str]]:
        """The rows of a few shards after those of others: no more are open at a time, and none is opened twice."""
        images, broken = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8), dict[int, str]()
        few = self.window + SPARE
        for first in range(0, len(numbers), few):
            places = np.flatnonzero(np.isin(shard_of, numbers[first : first + few]))
            images[places], unread = self.read([rows[place] for place in places])
            broken |= unread
        return images, broken

    def content(self, row: int) -> bytes:
        number = int(np.searchsorted(self.ends, row, side="right"))
        shard = self.shelf.start(number).result()
        if shard.places is None:
            place, size = self.index.table[row]["place"], self.index.table[row]["bytes"]
        else:
            within = row - int(self.ends[number - 1] if number else 0)
            place, end = shard.places[within : within + 2]
            size = end - place
        return os.pread(shard.file, int(size), int(place))
