"""Jobs that another program launches, such as Slurm or Ray. They report by files, for they may be on other machines."""

import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ssl_runner.sweep.dispatch import BEGUN, LOOK, WITHDRAWN, LauncherFailed, News, Run, Stop
from ssl_runner.sweep.launcher.task import HALT, RUNNING, Task

REPORTS = ".launch-"  # begins the name of the folder of reports, in the sweep's
PATIENCE = 60.0  # seconds without a new report after which a job is dead that the program has done with


@dataclass
class Submission:
    """A job that was handed over."""

    report: Path
    handle: Any
    state: str = ""  # its last report; empty before it has begun
    changed: float = field(default_factory=time.monotonic)

    def read(self) -> str:
        return self.report.read_text() if self.report.exists() else ""


class RemoteLauncher(ABC):
    """What launchers of other programs share. Subclasses know the program; their constructors are its settings."""

    program: ClassVar[str]
    task: ClassVar[type[Task]] = Task
    on_this_machine: ClassVar[bool] = False  # whether jobs are to end with the sweep
    places = None

    def open(self, sweep: Path, run: Run) -> None:
        self.sweep, self.run = sweep.resolve(), run
        self.reports = Path(tempfile.mkdtemp(prefix=REPORTS, dir=self.sweep))
        self.jobs: dict[int, Submission] = {}
        self.news: list[News] = []
        self.begun = False  # whether any job has

    def start(self, folders: Mapping[int, Path]) -> None:
        """Hands jobs over, as one array if the program has such a thing."""
        sweep = str(self.sweep) if self.on_this_machine else None
        tasks = []
        for number, folder in folders.items():
            report = self.reports / str(number)
            report.unlink(missing_ok=True)  # of an earlier attempt
            tasks.append(self.task(self.run, str(folder.resolve()), str(report), sweep, str(Path.cwd())))
        for number, task, handle in zip(folders, tasks, self.submit(tasks), strict=True):
            self.jobs[number] = Submission(Path(task.report), handle)

    def look(self) -> list[News]:
        time.sleep(LOOK)
        news, self.news = self.news, []
        for number, job in list(self.jobs.items()):
            over, before, job.state = self.over(job.handle), job.state, job.read()
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
                    raise LauncherFailed(f"{self.program}: {self.error(job.handle) or 'it said nothing'}")
            else:
                continue
            del self.jobs[number]
        return news

    def stop(self, how: Stop) -> None:
        """Jobs save even if nobody waits for them."""
        if how is not Stop.HOLD:
            (self.reports / HALT).touch()
        waiting = {number: job.handle for number, job in self.jobs.items() if not job.read()}
        if waiting:
            self.cancel(list(waiting.values()))
        self.news += [(number, WITHDRAWN) for number in waiting]
        self.jobs = {number: job for number, job in self.jobs.items() if number not in waiting}

    def close(self) -> None:
        shutil.rmtree(self.reports, ignore_errors=True)

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> Sequence[Any]: ...  # a handle for each

    @abstractmethod
    def over(self, handle: Any) -> bool: ...  # whether the program has done all that it does for a job

    @abstractmethod
    def cancel(self, handles: Sequence[Any]) -> None: ...  # of jobs that have not begun

    @abstractmethod
    def error(self, handle: Any) -> str: ...  # what the program says of a job that did not begin


def release(folder: Path) -> None:
    """Has the jobs of an earlier launch save and end whose sweep was killed."""
    for each in folder.glob(f"{REPORTS}*"):
        shutil.rmtree(each, ignore_errors=True)
