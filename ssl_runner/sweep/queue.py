"""Jobs on the devices of this machine: each its own process, the next as soon as one ends."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess

from ssl_runner.engine.interrupt import SIGNALS, Interrupt
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.ledger import Entry
from ssl_runner.sweep.monitor import Watch
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.worker import work

PRELOADED = ("ssl_runner.sweep.server", "ssl_runner.run.begin", "torch.utils.tensorboard")
LOOK = 0.5  # seconds between two looks at the jobs
LOST = 255  # exit status of a process whose server is gone: it may still be at work


@dataclass
class Slot:
    """A place for one job: a share of a device."""

    device: str | None  # of CUDA_VISIBLE_DEVICES; None for the CPU
    threads: int | None
    entry: Entry | None = None
    process: BaseProcess | None = None


def slots(settings: Settings) -> list[Slot]:
    """One for each job that may run at once, those of different devices first."""
    import torch

    found: list[str | None] = [None]
    if torch.cuda.is_available():
        typed = os.environ.get("CUDA_VISIBLE_DEVICES")
        found = list(typed.split(",")) if typed else [str(n) for n in range(torch.cuda.device_count())]
    at_once = len(found) * settings.jobs_per_device
    threads = settings.threads
    if threads is None and at_once > 1:
        threads = max(1, cores() // at_once)
    return [Slot(device, threads) for _ in range(settings.jobs_per_device) for device in found]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Queue:
    """The runner's own launcher."""

    def __init__(self, watch: Watch, todo: Sequence[Entry]):
        self.watch, self.todo = watch, list(todo)
        self.slots = slots(watch.settings)
        self.context = multiprocessing.get_context("forkserver")  # a job starts at once, with torch imported already
        # The first optimizer imports torch._dynamo, which takes a second. Whether that touches a GPU is not known, and
        # a job is given its GPU only when it is forked: so on CPUs alone.
        slow = ["torch._dynamo"] if all(slot.device is None for slot in self.slots) else []
        self.context.set_forkserver_preload([*PRELOADED, *slow])

    @property
    def running(self) -> list[tuple[Slot, Entry, BaseProcess]]:
        return [(slot, slot.entry, slot.process) for slot in self.slots if slot.entry and slot.process]

    def carry_out(self) -> int | None:
        """Returns the signal that ended it, or None where no job is left to do."""
        with Interrupt() as interrupt:
            try:
                serve()
                while self.running or (self.todo and interrupt.signal is None and not self.watch.must_stop):
                    if interrupt.signal is not None:
                        self.end(signal.SIGTERM)  # it saves, and ends; said again at each look, it changes nothing
                    elif not self.watch.must_stop:
                        self.fill()
                    multiprocessing.connection.wait(self.sentinels, timeout=LOOK)
                    self.look()
            except KeyboardInterrupt:  # the second one: nobody is waited for
                self.end(signal.SIGKILL)
                for *_, process in self.running:
                    process.join()
                self.look()
                return signal.SIGINT
            finally:  # where something went wrong here, jobs save and end
                self.end(signal.SIGTERM)
                for *_, process in self.running:
                    process.join()
        return interrupt.signal

    @property
    def sentinels(self) -> list[int]:
        return [process.sentinel for *_, process in self.running if process.exitcode is None]

    def end(self, number: int) -> None:
        for *_, process in self.running:
            assert process.pid is not None
            if process.exitcode in (None, LOST):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def fill(self) -> None:
        """Starts jobs in the slots that are free."""
        for slot in self.slots:
            if slot.process is None and self.todo:
                entry = self.todo.pop(0)
                folder = str(self.watch.folder(entry))
                process = self.context.Process(target=work, args=(folder, slot.threads, slot.device))
                process.start()
                slot.entry, slot.process = entry, process
                self.watch.begun(entry)

    def look(self) -> None:
        """Takes note of what has ended and of how far the others are."""
        for slot, entry, process in self.running:
            if process.exitcode is None or (process.exitcode == LOST and held(self.watch.folder(entry))):
                self.watch.follow(entry)
                continue
            process.join()
            status = process.exitcode
            process.close()
            slot.entry = slot.process = None
            self.watch.ended(entry, status)
        self.watch.tell()


def serve() -> None:
    """Starts the process that jobs are forked from. A signal to the sweep's process group does not end it.

    Until it has said that it ignores them, the signals are blocked in it, as they are here when it is started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # it unblocks some of them here
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
