"""Local queue: jobs on the devices of this machine, each its own process, the next as soon as one ends."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import BEGUN, LOOK, News, Run, Stop
from ssl_runner.sweep.worker import run_process

PRELOADED = ("ssl_runner.sweep.launcher.server", "ssl_runner.run.session", "torch.utils.tensorboard")
LOST = 255  # exit status of a process whose server is gone: it may still be at work


@dataclass
class Slot:
    """A place for one job: a share of a device of CUDA_VISIBLE_DEVICES, or of the CPU."""

    device: str | None
    number: int = -1  # of the job
    folder: Path = Path()
    process: BaseProcess | None = None


class LocalQueue:
    """The runner's own launcher. `threads`: of a job; by default the cores are shared out among jobs at once."""

    def __init__(self, *, jobs_per_device: int, threads: int | None):
        self.jobs_per_device, self.threads = jobs_per_device, threads

    def open(self, sweep: Path, run: Run) -> None:
        visible = devices()
        self.slots = [Slot(device) for _ in range(self.jobs_per_device) for device in visible]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = max(1, cores // len(self.slots)) if len(self.slots) > 1 else None
        self.run, self.begun = partial(run, threads=self.threads or shared), list[News]()
        self.context = multiprocessing.get_context("forkserver")  # a job starts at once, with torch imported already
        # The first optimizer imports torch._dynamo, which takes a second. Whether that touches a GPU is not known, and
        # a job is given its GPU only when it is forked: so on CPUs alone.
        slow = ["torch._dynamo"] if visible == [None] else []
        self.context.set_forkserver_preload([*PRELOADED, self.run.func.__module__, *slow])
        start_server()

    @property
    def running(self) -> list[tuple[Slot, BaseProcess]]:
        return [(slot, slot.process) for slot in self.slots if slot.process]

    @property
    def places(self) -> int:
        return len(self.slots) - len(self.running)

    def start(self, folders: Mapping[int, Path]) -> None:
        free = [slot for slot in self.slots if slot.process is None]
        for slot, (number, folder) in zip(free, folders.items(), strict=False):
            process = self.context.Process(target=run_process, args=(self.run, str(folder), slot.device))
            process.start()
            slot.number, slot.folder, slot.process = number, folder, process
            self.begun.append((number, BEGUN))

    def look(self) -> list[News]:
        news, self.begun = self.begun, []
        alive = [process.sentinel for _, process in self.running if process.exitcode is None]
        multiprocessing.connection.wait(alive, timeout=0 if news else LOOK)
        for slot, process in self.running:
            if process.exitcode is None or (process.exitcode == LOST and held(slot.folder)):
                continue
            process.join()
            news.append((slot.number, process.exitcode))
            process.close()
            slot.process = None
        return news

    def stop(self, how: Stop) -> None:
        for _, process in self.running if how is not Stop.HOLD else ():
            if process.exitcode in (None, LOST):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGTERM if how is Stop.SAVE else signal.SIGKILL)
        if how is Stop.KILL:
            self.join()

    def close(self) -> None:
        self.stop(Stop.SAVE)
        self.join()

    def join(self) -> None:
        for _, process in self.running:
            process.join()


def devices() -> list[str | None]:
    """CUDA devices by their names in CUDA_VISIBLE_DEVICES, or None for the CPU."""
    import torch

    if not torch.cuda.is_available():
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [*visible.split(",")] if visible else [str(number) for number in range(torch.cuda.device_count())]


def start_server() -> None:
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
