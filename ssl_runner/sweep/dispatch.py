"""Dispatch of jobs: takes them from a source, hands them to a launcher, and has their progress watched."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ssl_runner.engine.interrupt import Interrupt

if TYPE_CHECKING:
    from ssl_runner.sweep.ledger import Entry
    from ssl_runner.sweep.monitor import JobMonitor

LOOK = 0.5  # seconds between two looks at the jobs
BEGUN, WITHDRAWN = "begun", "withdrawn"
News = tuple[int, str | int]  # a job's number, and BEGUN, or WITHDRAWN before it began, or its exit status
Run = Callable[..., int]  # run(FOLDER, threads=N), of a module: carries out the run of a folder; its exit status


class Stop(IntEnum):
    """How jobs stop: no other begins; the running ones save and end, too; they end without being waited for."""

    HOLD, SAVE, KILL = range(3)


class LauncherFailed(Exception):
    """No job can be begun."""


class Launcher(Protocol):
    """Runs jobs, known by their numbers, each in a process of its own. Any method may raise LauncherFailed."""

    @property
    def places(self) -> int | None: ...  # for how many jobs; None: any number, which wait elsewhere
    def open(self, sweep: Path, run: Run) -> None: ...  # before all else
    def start(self, folders: Mapping[int, Path]) -> None: ...
    def look(self) -> list[News]: ...  # since the last look; waits for as long as LOOK
    def stop(self, how: Stop) -> None: ...  # may be repeated
    def close(self) -> None: ...  # jobs that still run save and end


class Jobs:
    """Where jobs come from: a list of them."""

    def __init__(self, monitor: "JobMonitor", entries: Sequence["Entry"]):
        self.monitor, self.waiting = monitor, list(entries)

    def take(self, places: int | None) -> list["Entry"]:
        """Jobs to begin now; none if there are none now."""
        taken = self.waiting[:places]
        del self.waiting[: len(taken)]
        return taken

    def end(self, entry: "Entry", status: int) -> None:
        """Takes note of an exit status, or of the signal `-status` that a job was killed by."""
        self.monitor.end(entry, status)


def dispatch(source: Jobs, launcher: Launcher, run: Run) -> int | None:
    """Runs jobs until there are none left. Returns the signal that cut it off, or None. Raises LauncherFailed."""
    monitor = source.monitor
    running: dict[int, Entry] = {}
    with own_imports():
        launcher.open(monitor.ledger.folder, run)  # before the handlers of signals: Ray brings its own
    with own_imports(), Interrupt() as interrupt:
        try:
            while True:
                if interrupt.signal is not None or monitor.must_stop:
                    launcher.stop(Stop.HOLD if interrupt.signal is None else Stop.SAVE)
                elif jobs := {each.number: each for each in source.take(launcher.places)}:
                    running |= jobs
                    launcher.start({number: monitor.folder(each) for number, each in jobs.items()})
                if not running:
                    return interrupt.signal
                update(running, launcher, source)
        except KeyboardInterrupt:  # the second one
            launcher.stop(Stop.KILL)
            update(running, launcher, source)
            return interrupt.signal
        finally:
            launcher.close()


@contextlib.contextmanager
def own_imports() -> Iterator[None]:
    """Processes that are started import from where this one does. Python looks in the current folder first.

    That is where a sweep was begun, by the word of its sweep.json, and may be a stranger's.
    """
    before = dict(os.environ)
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    try:
        yield
    finally:
        for name in ("PYTHONSAFEPATH", "PYTHONPATH"):
            os.environ.pop(name)
        os.environ |= before


def update(running: dict[int, "Entry"], launcher: Launcher, source: Jobs) -> None:
    """Takes note of what has begun and ended, and of how far the others are."""
    for number, status in launcher.look():
        if status == BEGUN:
            source.monitor.begin(running[number])
        elif status == WITHDRAWN:
            del running[number]
        else:
            source.end(running.pop(number), int(status))
    source.monitor.follow([each for each in running.values() if each.status == "running"])
