"""Start of a sweep that was read: begun anew, or gone on with where it stopped."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ssl_runner.errors import Refused
from ssl_runner.run_folder.layout import CONFIG, LOCK, SWEEP
from ssl_runner.run_folder.lock import claim, claim_new, locked
from ssl_runner.sweep.dispatch import LauncherFailed, Run
from ssl_runner.sweep.launcher.local import LocalQueue
from ssl_runner.sweep.ledger import ENDED, Ledger, key_of
from ssl_runner.sweep.monitor import JobMonitor
from ssl_runner.sweep.naming import shared, slug
from ssl_runner.sweep.objective import is_better_smaller
from ssl_runner.sweep.run import Compare, Sweep
from ssl_runner.sweep.search import run_search
from ssl_runner.sweep.view import View

if TYPE_CHECKING:
    from ssl_runner.sweep.read import Request


def start(request: "Request", command: list[str], console: Console, run_job: Run, compare: Compare) -> int:
    """Runs a sweep that has no problems. Returns the exit status. Raises ValueError if it cannot begin or go on.

    `command`: the words that make the sweep. `run_job(FOLDER, threads=N)` carries out the run of a folder in its
    process. `compare(FOLDER, METRIC, CONSOLE)` prints a comparison of the jobs.
    """
    try:
        with open_sweep(request, command, console, run_job, compare) as sweep:
            return run_jobs(sweep, request) if request.optuna is None else run_search(sweep, request)
    except (LauncherFailed, Refused, OSError) as error:
        raise ValueError(f"sweep: {error}") from None


@contextlib.contextmanager
def open_sweep(
    request: "Request", command: list[str], console: Console, run_job: Run, compare: Compare
) -> Iterator[Sweep]:
    """A new sweep, or the one to be gone on with.

    Raises ValueError or OSError if its folder cannot be had, and Refused if another process runs the sweep.
    """
    settings = request.settings
    assert settings is not None
    folder = Path(settings.resume) if settings.resume is not None else claim_sweep(request.folder)
    if settings.resume is not None and not (folder / SWEEP).is_file():
        raise ValueError(f"{folder} holds no sweep: there is no readable {SWEEP} in it")
    with locked(folder):
        if settings.resume is not None:
            ledger = Ledger.open(folder)
            ledger.command = command or ledger.command  # written when something begins with it
        elif (folder / SWEEP).exists():  # begun by another process since the folder was looked at
            raise Refused(f"{folder} holds a sweep; go on with it: ssl-runner -m sweep.resume={folder}")
        else:
            ledger = Ledger(folder, command)
            ledger.write()  # from here on it can be gone on with
        console.print(f"sweep in {folder}", soft_wrap=True)
        if done := sum(each.status in ENDED for each in ledger.jobs.values()):
            console.print(f"{done} jobs are done already")
        smaller = is_better_smaller(settings.metric)
        if request.optuna is not None:
            smaller = request.optuna.direction == "minimize"
        launcher = request.launcher or LocalQueue(jobs_per_device=settings.jobs_per_device, threads=settings.threads)
        view = View(console, settings.metric, smaller)
        yield Sweep(ledger, settings, launcher, view, JobMonitor(ledger, settings, view, smaller), run_job, compare)


def claim_sweep(typed: str | None) -> Path:
    """A new sweep's folder; one in which a sweep was killed before its first word is as good as new."""
    if typed is None:
        return claim_new(Path("outputs/sweeps"))
    folder = Path(typed)
    if folder.is_dir() and [each.name for each in folder.iterdir()] == [LOCK]:
        return folder
    return claim(folder)


def run_jobs(sweep: Sweep, request: "Request") -> int:
    """Runs every job, or goes on with those that are recorded. Returns the exit status.

    Raises ValueError if the jobs are those of another sweep.
    """
    known, jobs = sweep.ledger.jobs, request.jobs
    if request.recorded:
        entries = list(known.values())
        lacking = [each for each in entries if not (sweep.monitor.folder(each) / CONFIG).exists()]
        contents = {each.number: request.compose(each.overrides) for each in lacking if each.status not in ENDED}
    elif known and jobs and not any(key_of(each.overrides) in known for each in jobs):
        folder = shlex.quote(str(sweep.ledger.folder))
        raise ValueError(
            f"sweep.resume: none of the {len(jobs)} jobs typed is one of the {len(known)} in {folder}; to go on with "
            f"those type ssl-runner -m sweep.resume={folder}, and for a sweep of the ones typed leave sweep.resume out"
        )
    else:
        common = shared([each.overrides for each in jobs])
        entries = [sweep.ledger.add(each.overrides, slug(each.overrides, common)) for each in jobs]
        contents = {entry.number: each.content for entry, each in zip(entries, jobs, strict=True)}
        sweep.ledger.write()
    return sweep.conclude(lambda: sweep.run(entries, contents))
