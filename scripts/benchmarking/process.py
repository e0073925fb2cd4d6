"""Contestants in processes of their own, alive for the whole contest: one's allocator, threads and imports are nobody
else's, and no start-up is counted."""

import importlib
import multiprocessing
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Protocol

SPAWN = multiprocessing.get_context("spawn")  # a fork would share the parent's torch


class Contestant(Protocol):
    """A class of this name is in each contestant's file. It is built once a work, and then runs in turn."""

    note: str  # what was chosen for it

    def __init__(self, setting: Any, ours: bool): ...

    def run(self, steps: int) -> float:
        """Seconds a step, of this many after some that warm up."""
        ...

    def close(self) -> None: ...


class Hired:
    """A contestant's process, driven over a pipe. `ours` gives a peer the runner's allocator and memory format."""

    def __init__(self, module: str, ours: bool = False):
        self.module, self.ours = module, ours
        self.pipe, there = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(there, module, ours))
        self.process.start()
        there.close()

    def prepare(self, setting: Any) -> str:
        """Builds the contestant for a setting, and returns its note."""
        return self._ask("prepare", setting)

    def run(self, steps: int) -> float:
        return self._ask("run", steps)

    def release(self) -> None:
        self._ask("release")

    def close(self) -> None:
        self.pipe.close()  # which ends it
        self.process.join(10)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()

    def _ask(self, *message: Any) -> Any:
        self.pipe.send(message)
        done, answer = self.pipe.recv()
        if not done:
            raise RuntimeError(f"{self.module} failed:\n{answer}")
        return answer


def serve(pipe: Connection, module: str, ours: bool) -> None:
    """The process's side: it builds, runs and drops the contestant, until the pipe is closed."""
    warnings.simplefilter("ignore")
    contestant: Contestant | None = None
    while True:
        try:
            verb, *arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            break
        try:
            if verb == "run":
                assert contestant is not None
                answer: Any = contestant.run(*arguments)
            else:
                if contestant is not None:
                    contestant.close()
                contestant = answer = None
                if verb == "prepare":
                    contestant = importlib.import_module(module).Contestant(*arguments, ours)
                    answer = contestant.note
                else:
                    importlib.import_module("benchmarking.place").give_memory_back()
            pipe.send((True, answer))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    if contestant is not None:
        contestant.close()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *arguments).result()
