"""Launcher base for Slurm and Ray, whose jobs may be on other machines: they report their state by files."""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ssl_runner.errors import Refused
from ssl_runner.sweep.dispatch import BEGUN, LOOK, WITHDRAWN, News, Run, Stop
from ssl_runner.sweep.worker import HALT, RUNNING, Task

REPORTS = ".launch-"  # begins the name of the folder of reports, in the sweep's
FILES = 50  # reports that are looked at a second: the file system may be shared by a whole cluster
PATIENCE = 60.0  # seconds without a new report after which a job counts as dead, if the program is done with it


@dataclass
class Submission:
    """A job that was handed over."""

    report: Path
    handle: Any
    state: str = ""  # its last report; empty before it has begun
    changed: float = field(default_factory=time.monotonic)

    def read(self) -> str:
        return self.report.read_text(encoding="utf-8") if self.report.exists() else ""


class RemoteLauncher:
    """What the launchers of Slurm and Ray share. Constructors of subclasses are the settings of the program."""

    program: ClassVar[str]
    task: ClassVar[type[Task]] = Task
    on_this_machine: ClassVar[bool] = False  # whether jobs are to end with the sweep
    places = None

    submit: Callable[[Sequence[Task]], Sequence[Any]]  # a handle for each: a future
    cancel: Callable[[Sequence[Any]], None]  # of jobs that have not begun

    def open(self, sweep: Path, run: Run) -> None:
        self.sweep, self.run = sweep.resolve(), run
        self.reports = Path(tempfile.mkdtemp(prefix=REPORTS, dir=self.sweep))
        self.jobs: dict[int, Submission] = {}
        self.news: list[News] = []
        self.begun = False  # whether any job has

    def start(self, folders: Mapping[int, Path]) -> None:
        """Hands jobs over, as one array if the program has such a thing."""
        sweep, reports = self.sweep if self.on_this_machine else None, [self.reports / str(each) for each in folders]
        pairs = list(zip(folders.values(), reports, strict=True))
        tasks = [self.task(self.run, folder.resolve(), report, sweep, Path.cwd()) for folder, report in pairs]
        for number, report, handle in zip(folders, reports, self.submit(tasks), strict=True):
            self.jobs[number] = Submission(report, handle)

    def look(self) -> list[News]:
        time.sleep(max(LOOK, len(self.jobs) / FILES))
        news, self.news = self.news, []
        for number, job in list(self.jobs.items()):
            over, before, job.state = job.handle.done(), job.state, job.read()
            if job.state and not before:
                self.begun = True
                news.append((number, BEGUN))
            if job.state != before or not over:
                job.changed = time.monotonic()
            if job.state and not job.state.startswith(RUNNING):
                news.append((number, int(job.state)))
            elif time.monotonic() - job.changed > PATIENCE:
                news.append((number, -signal.SIGKILL if job.state else WITHDRAWN))
                if not self.begun and len(self.jobs) == 1:
                    reason = job.handle.exception() or f"a job has ended with {job.handle.result()} before it began"
                    last_line = str(reason).strip().rpartition("\n")[2]
                    raise Refused(f"{self.program}: {last_line or 'it said nothing'}")
            else:
                continue
            self.jobs.pop(number).report.unlink(missing_ok=True)  # it may be begun again
        return news

    def stop(self, how: Stop) -> None:
        """Jobs save even if nobody waits for them."""
        if how != "hold":
            (self.reports / HALT).touch()
        if waiting := [number for number, job in self.jobs.items() if not job.read()]:
            self.cancel([self.jobs.pop(number).handle for number in waiting])
        self.news += [(number, WITHDRAWN) for number in waiting]

    def close(self) -> None:
        shutil.rmtree(self.reports, ignore_errors=True)
