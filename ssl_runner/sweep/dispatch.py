"""Dispatch of a sweep's jobs: hands them to a launcher as places get free, and passes on what it reports of them."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ssl_runner.engine.interrupt import Interrupt

if TYPE_CHECKING:
    from ssl_runner.sweep.jobs import Jobs
    from ssl_runner.sweep.ledger import Entry

LOOK = 0.5  # seconds between two looks at the jobs
BEGUN, WITHDRAWN = "begun", "withdrawn"
NOTICE = "running jobs save and end, and no other begins; a second Ctrl-C ends them at once"
News = tuple[int, str | int]  # a job's number, and BEGUN, or WITHDRAWN before it began, or its exit status
# hold: no other job begins; save: and running ones save and end; kill: and they end at once
Stop = Literal["hold", "save", "kill"]
Run = Callable[..., int]  # a function of a module: run(FOLDER, threads=N) carries out a job and returns its exit status


class Launcher(Protocol):
    """Runs jobs, known by their numbers, each in a process of its own. Raises Refused if no job can be begun."""

    @property
    def places(self) -> int | None: ...  # how many jobs may begin now; None: any number, which the program queues
    def open(self, sweep: Path, run: Run) -> None: ...  # before all else
    def start(self, folders: Mapping[int, Path]) -> None: ...
    def look(self) -> list[News]: ...  # since the last look; waits for as long as LOOK
    def stop(self, how: Stop) -> None: ...  # may be repeated
    def close(self) -> None: ...  # jobs that still run save and end


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables, and afterwards restores the environment as it was."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def dispatch(jobs: "Jobs", launcher: Launcher, run: Run) -> int | None:
    """Runs jobs until there are none left. Returns the signal that cut it off, or None. Raises Refused."""
    running: dict[int, Entry] = {}

    def update() -> None:
        for number, status in launcher.look():
            if status == BEGUN:
                jobs.begin(running[number])
            elif status == WITHDRAWN:
                del running[number]
            else:
                jobs.end(running.pop(number), int(status))
        jobs.follow([each for each in running.values() if each.status == "running"])

    # Processes that are started import from the folders that this one imports from. Not from the current folder, where
    # Python would look first: sweep.json names it, and it may be a stranger's.
    paths = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    with variables(paths):
        launcher.open(jobs.ledger.folder, run)  # before the handlers of signals: Ray brings its own
        with Interrupt(NOTICE) as interrupt:
            try:
                while True:
                    if interrupt.signal is not None or jobs.must_stop:
                        launcher.stop("hold" if interrupt.signal is None else "save")
                    elif taken := {each.number: each for each in jobs.take(launcher.places)}:
                        running |= taken
                        launcher.start({number: jobs.folder(each) for number, each in taken.items()})
                    if not running:
                        return interrupt.signal
                    update()
            except KeyboardInterrupt:  # the second one
                launcher.stop("kill")
                update()
                return interrupt.signal
            finally:
                launcher.close()
