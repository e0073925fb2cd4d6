"""Local queue: jobs on the devices of this machine, each its own process, the next as soon as one ends."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Mapping
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from ssl_runner.engine.interrupt import start_fork_server
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import BEGUN, LOOK, News, Run, Stop
from ssl_runner.sweep.worker import run_process

PRELOADED = ("ssl_runner.run.session", "torch.utils.tensorboard")
LOST = 255  # exit status of a process whose server is gone: it may still be at work


class LocalQueue:
    """The runner's own launcher. `threads`: of a job; by default the cores are shared out among jobs at once."""

    def __init__(self, *, jobs_per_device: int, threads: int | None):
        self.jobs_per_device, self.threads = jobs_per_device, threads

    def open(self, sweep: Path, run: Run) -> None:
        visible = devices()
        self.free = visible * self.jobs_per_device
        self.running: dict[int, tuple[BaseProcess, str | None, Path]] = {}  # the device and the folder of a job
        self.news: list[News] = []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = max(1, cores // len(self.free)) if len(self.free) > 1 else None
        self.run = partial(run, threads=self.threads or shared)
        self.context = multiprocessing.get_context("forkserver")  # a job starts at once, with torch imported already
        # The first optimizer imports torch._dynamo, which takes a second. Whether that touches a GPU is not known, and
        # a job is given its GPU only when it is forked: so on CPUs alone.
        slow = ["torch._dynamo"] if visible == [None] else []
        start_fork_server(*PRELOADED, self.run.func.__module__, *slow)

    @property
    def places(self) -> int:
        return len(self.free)

    def start(self, folders: Mapping[int, Path]) -> None:
        for number, folder in folders.items():
            device = self.free.pop(0)
            process = self.context.Process(target=run_process, args=(self.run, str(folder), device))
            process.start()
            self.running[number] = process, device, folder
            self.news.append((number, BEGUN))

    def look(self) -> list[News]:
        news, self.news = self.news, []
        alive = [process.sentinel for process, _, _ in self.running.values() if process.exitcode is None]
        multiprocessing.connection.wait(alive, timeout=0 if news else LOOK)
        for number, (process, device, folder) in list(self.running.items()):
            if process.exitcode is None or (process.exitcode == LOST and held(folder)):
                continue
            process.join()
            news.append((number, process.exitcode))
            self.free.append(device)
            del self.running[number]
        return news

    def stop(self, how: Stop) -> None:
        for process, _, _ in self.running.values() if how != "hold" else ():
            if process.exitcode in (None, LOST):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGTERM if how == "save" else signal.SIGKILL)
        if how == "kill":
            self.join()

    def close(self) -> None:
        self.stop("save")
        self.join()

    def join(self) -> None:
        for process, _, _ in self.running.values():
            process.join()


def devices() -> list[str | None]:
    """CUDA devices by their names in CUDA_VISIBLE_DEVICES, or None for the CPU."""
    import torch

    if not torch.cuda.is_available():
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [*visible.split(",")] if visible else [str(number) for number in range(torch.cuda.device_count())]
