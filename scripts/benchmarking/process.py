"""Contestants in processes of their own, alive for the whole contest: one's allocator, threads and imports are nobody
else's, and no start-up is counted."""

import importlib
import multiprocessing
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

LARGE = 4096  # MB
SPAWN = multiprocessing.get_context("spawn")  # a fork would share the parent's torch


class Failed(RuntimeError):
    """A contestant raised, or its process ended. The last line says what it was, those before it where."""

    @property
    def line(self) -> str:
        return str(self).strip().splitlines()[-1]


class Contestant(Protocol):
    """A class of this name is in each contestant's file. It is built once a work, and then runs in turn."""

    note: str  # what was chosen for it
    took: float | None  # seconds a step, where that is known already

    def __init__(self, setting: Any, ours: bool): ...

    def turn(self, steps: int) -> int:
        """The least number of steps, not below this one, in which all that it does from time to time has its share."""
        ...

    def run(self, steps: int) -> float:
        """Seconds a step, of this many after some that warm up."""
        ...

    def close(self) -> None: ...


class Hired:
    """A contestant's process, driven over a pipe. `ours` gives a peer all that the runner gives itself.

    Whatever goes wrong there is raised here as Failed. A process that has ended is replaced when it is next prepared.
    """

    def __init__(self, module: str, ours: bool = False):
        self.module, self.ours = module, ours
        self.took: float | None = None
        self._begin()

    def prepare(self, setting: Any) -> str:
        """Builds the contestant for a setting, and returns its note."""
        if not self.process.is_alive():
            self.close()
            self._begin()
        note, self.took = self._ask("prepare", setting)
        return note

    def turn(self, steps: int) -> int:
        return self._ask("turn", steps)

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

    def _begin(self) -> None:
        self.pipe, there = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(there, self.module, self.ours))
        self.process.start()
        there.close()

    def _ask(self, *message: Any) -> Any:
        try:
            self.pipe.send(message)
            done, answer = self.pipe.recv()
        except (EOFError, OSError):  # a broken pipe or a reset connection
            self.process.join(10)
            raise Failed(f"{self.module} ended with exit code {self.process.exitcode}") from None
        if not done:
            raise Failed(f"{self.module} failed:\n{answer}")
        return answer


def serve(pipe: Connection, module: str, ours: bool) -> None:
    """The process's side: it builds, runs and drops the contestant, until the pipe is closed."""
    warnings.simplefilter("ignore")
    with suppress(Exception):  # it is told when a contestant is asked for; until then all import at once
        importlib.import_module(module)
    contestant: Contestant | None = None
    while True:
        try:
            verb, *arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            break
        try:
            if verb in ("run", "turn"):
                assert contestant is not None
                answer: Any = getattr(contestant, verb)(*arguments)
                rest()
            else:
                if contestant is not None:
                    contestant.close()
                contestant = answer = None
                if verb == "prepare":
                    contestant = importlib.import_module(module).Contestant(*arguments, ours)
                    answer = contestant.note, contestant.took
                else:
                    importlib.import_module("benchmarking.place").give_memory_back()
            pipe.send((True, answer))
        except BrokenPipeError:
            break
        except Exception:
            pipe.send((False, traceback.format_exc()))
    if contestant is not None:
        contestant.close()


def rest() -> None:
    """A contestant that waits for its turn keeps its memory, as its allocator does, unless others may want for it."""
    place = importlib.import_module("benchmarking.place")
    if place.resident_mb() > LARGE:
        place.give_memory_back()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *arguments).result()
