"""Worker processes that decode the rows of coming steps while one is learnt from: torch's DataLoader, by position.

Rows are read so if they have an attribute `processes`, how many; those of dataset=image_folder have it if they are
decoded on demand. What a step is made of depends on its number alone, never on how many processes there are.
"""

import logging
import math
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import active_children, connection, parent_process
from multiprocessing.process import BaseProcess
from os import _exit
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_runner.engine.interrupt import SIGNALS, start_fork_server

if TYPE_CHECKING:
    from ssl_runner.contract import Rows

LEAST = 16  # rows that are asked of a process at once; a step is shared out among them, so that it is soon complete
PRELOADED = ("torch.utils.data", "ssl_runner.data.image_files.source")
CAUSES = {
    signal.SIGKILL: ", as the system does when memory runs out; type dataset.workers=N for fewer",
    signal.SIGBUS: ", as when shared memory (/dev/shm) is full; type dataset.workers=N for fewer",
}


class Workers:
    """Batches by step, read ahead by `rows.processes` processes, which start with the first step and stay.

    index: the rows of a step. last: the step that nothing is read beyond.
    """

    def __init__(self, rows: "Rows", index: Callable[[int], Tensor], *, batch_size: int, last: int, pinned: bool):
        self.rows, self.pinned = rows, pinned
        self.parts = max(1, min(rows.processes, math.ceil(batch_size / LEAST)))  # type: ignore[attr-defined]
        self.steps = Steps(index, last, self.parts)
        self.batches: DataLoader | None = None
        self.ahead: Iterator[Any] | None = None
        self.next = -1
        self.processes: list[BaseProcess] = []
        self.end = weakref.finalize(self, end, self.processes)  # also if nobody closes it

    def take(self, step: int) -> list[tuple[Tensor, Tensor]] | None:
        """The parts of a step: row numbers and rows. None if the step was taken already, as the last one.

        Raises ChildProcessError if a process has died, and what reading the rows raised in one.
        """
        if step == self.next - 1:
            return None
        if step != self.next:
            self.begin(step)
        parts = [self.receive() for _ in range(self.parts)]
        self.next = step + 1
        return parts

    def begin(self, step: int) -> None:
        self.steps.first = step
        others = set(active_children())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # more processes than cores
            self.batches = self.load() if self.batches is None else self.batches
            self.ahead = iter(self.batches)
        self.processes += set(active_children()) - others

    def load(self) -> DataLoader:
        start_fork_server(*PRELOADED)
        return DataLoader(
            Read(self.rows),
            batch_size=None,
            sampler=self.steps,
            num_workers=self.rows.processes,  # type: ignore[attr-defined]
            collate_fn=unchanged,
            pin_memory=self.pinned,
            worker_init_fn=begin,
            multiprocessing_context="forkserver",  # others are forked amid threads, or import torch one by one
            persistent_workers=True,
        )

    def receive(self) -> tuple[Tensor, Tensor]:
        assert self.ahead is not None
        try:
            index, rows, remarks = next(self.ahead)
        except (RuntimeError, OSError, EOFError):  # the latter two: it is gone while its rows are fetched
            connection.wait([each.sentinel for each in self.processes], timeout=1)
            if codes := [each.exitcode for each in self.processes if each.exitcode is not None]:
                raise ChildProcessError(cause_of_death(codes[0])) from None
            raise
        for name, level, remark in remarks:
            logging.getLogger(name).log(level, "%s", remark)
        if isinstance(rows, Exception):
            raise rows
        return index, rows

    def close(self) -> None:
        self.ahead = self.batches = None  # which ends them, each after the rows that it is reading
        self.end()


class Steps(Sampler):
    """The rows of each step from `first` on, in parts."""

    def __init__(self, index: Callable[[int], Tensor], last: int, parts: int):
        self.index, self.last, self.parts, self.first = index, last, parts, 0

    def __iter__(self) -> Iterator[Tensor]:
        for step in range(self.first, max(self.last, self.first + 1)):
            yield from self.index(step).tensor_split(self.parts)


class Read(Dataset):
    """Rows by their numbers, and messages logged while they were read, for the training process to write to its log."""

    def __init__(self, rows: "Rows"):
        self.rows = rows

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor | Exception, list[tuple[str, int, str]]]:
        rows: Tensor | Exception
        try:
            rows = self.rows[index]
        except (OSError, ValueError) as error:  # a remedy for the user; of others the traceback is wanted
            rows = type(error)(str(error))
        remarks, Remarks.kept = Remarks.kept, []
        return index, rows, remarks


class Remarks(logging.Handler):
    """Keeps what is logged in a worker process."""

    kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.levelno, record.getMessage()))


def begin(_: int) -> None:
    """Sets up a worker process: it ignores signals, since the training process ends it, and ends if that one dies."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger().addHandler(Remarks(logging.WARNING))
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata, a line a file
    threading.Thread(target=end_with, args=(parent_process(),), daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    connection.wait([parent.sentinel])
    _exit(1)


def end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()  # one that waits for a disk that does not answer ends by nothing else
        process.join()


def cause_of_death(code: int) -> str:
    how = (
        f"by {signal.Signals(-code).name}{CAUSES.get(signal.Signals(-code), '')}" if code < 0 else f"with status {code}"
    )
    return f"a worker process that decodes samples was ended {how}"


def unchanged(item: Any) -> Any:
    return item
