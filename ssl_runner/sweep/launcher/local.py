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

from ssl_runner.data.machine import usable_cores
from ssl_runner.engine.interrupt import start_fork_server
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import BEGUN, LOOK, News, Run, Stop
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.worker import kill_group, run_process

PRELOADED = ("ssl_runner.run.session", "torch.utils.tensorboard")
LOST = 255  # exit status of a process whose fork server is gone: the process itself may still be at work


class LocalQueue:
    """The runner's own launcher. Raises ValueError if this machine has too few devices for a job."""

    def __init__(self, settings: Settings):
        size, visible = settings.devices_per_job or 1, devices()
        if visible and size > len(visible):
            given = f"sweep.devices_per_job: given {size}, and there are {len(visible)} CUDA devices here"
            raise ValueError(f"{given}; type a number up to {len(visible)}")
        places = range(0, len(visible) - size + 1, size)
        groups: list[str | None] = [",".join(visible[first : first + size]) for first in places]
        self.free = (groups or [None]) * settings.jobs_per_device
        at_once = len(self.free) * size  # processes
        self.threads = settings.threads or (max(1, usable_cores() // at_once) if at_once > 1 else None)

    def open(self, sweep: Path, run: Run) -> None:
        self.running: dict[int, tuple[BaseProcess, str | None, Path]] = {}  # the devices and the folder of a job
        self.news: list[News] = []
        self.run = partial(run, threads=self.threads)
        self.context = multiprocessing.get_context("forkserver")  # a job starts at once, with torch imported already
        # The first optimizer imports torch._dynamo, which takes a second. Whether that touches a GPU is not known, and
        # a job is given its GPUs only when it is forked: so on CPUs alone.
        slow = ["torch._dynamo"] if None in self.free else []
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
            kill_group(process.pid)
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
            if process.exitcode != LOST:
                kill_group(process.pid)


def devices() -> list[str]:
    """CUDA devices by their names in CUDA_VISIBLE_DEVICES; none on a machine that has only a CPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [*visible.split(",")] if visible else [str(number) for number in range(torch.cuda.device_count())]
