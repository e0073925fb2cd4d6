"""Run of a sweep that was read: begun anew, or gone on with, to the table at the end and what to type next."""

import contextlib
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.render import print_terminal
from ssl_runner.comparison.table import Unknown, compare
from ssl_runner.errors import DONE, FAILED, REFUSED, Refused, are, hide_passwords, plural
from ssl_runner.run_folder.layout import SWEEP
from ssl_runner.run_folder.lock import claim, claim_new, locked
from ssl_runner.run_folder.summary import ENDED
from ssl_runner.sweep.dispatch import Launcher, Run, dispatch
from ssl_runner.sweep.jobs import Jobs
from ssl_runner.sweep.launcher.local import LocalQueue
from ssl_runner.sweep.ledger import Ledger
from ssl_runner.sweep.search import Search
from ssl_runner.sweep.settings import key_of, ranking_metric
from ssl_runner.sweep.study import STORAGE, refuse_database_errors

if TYPE_CHECKING:
    from ssl_runner.sweep.read import Request

ROWS = 12  # of the comparison


def start(request: "Request", command: list[str], console: Console, run_job: Run) -> int:
    """Runs a sweep that has no problems. Returns the exit status. Raises ValueError if it cannot begin or go on.

    `command`: the words that make the sweep.
    """
    launcher, optuna = request.launcher or LocalQueue(request.settings), request.optuna
    if optuna and optuna.storage:  # refused, if at all, before a folder is made
        optuna.open(Path(), request.axes, request.settings.metric)
    try:
        with open_sweep(request, command) as ledger, refuse_database_errors():
            console.print(f"sweep in {ledger.folder}", soft_wrap=True)
            for line in dict.fromkeys(line for job in request.jobs for line in job.composed.notes):
                console.print(line, highlight=False, soft_wrap=True)
            if done := sum(each.status in ENDED for each in ledger.jobs.values()):
                console.print(f"{plural(done, 'job')} {are(done)} done already")
            jobs = Jobs(ledger, request, console) if optuna is None else Search(ledger, request, console)
            return run(jobs, launcher, run_job)
    except (Refused, OSError) as error:
        raise ValueError(f"sweep: {error}") from None


@contextlib.contextmanager
def open_sweep(request: "Request", command: list[str]) -> Iterator[Ledger]:
    """The ledger of a new sweep, or of one to be gone on with, whose folder is held meanwhile.

    Raises ValueError or OSError if the folder cannot be had, and Refused if another process runs the sweep.
    """
    resume, typed = request.settings.resume, Path(request.folder) if request.folder else None
    folder = Path(resume) if resume is not None else claim(typed) if typed else claim_new(Path("outputs/sweeps"))
    with locked(folder):
        if resume is None and (folder / SWEEP).exists():  # begun by another process since the folder was looked at
            raise Refused(f"{folder} holds a sweep; go on with it: ssl-runner -m sweep.resume={folder}")
        ledger = Ledger(folder=folder, command=command, jobs={}) if resume is None else Ledger.open(folder)
        secret = [hide_passwords(word) if key_of(word) == STORAGE else word for word in command]
        ledger.command = secret or ledger.command
        if resume is None:
            ledger.write()  # from here on it can be gone on with
        yield ledger


def run(jobs: Jobs, launcher: Launcher, run_job: Run) -> int:
    """Runs jobs, says what became of them and what to type next. Returns the exit status."""
    settings, console, folder = jobs.request.settings, jobs.console, jobs.ledger.folder
    signal = jobs.collect()
    cut_off = signal is not None
    if not cut_off and jobs.left:
        try:
            with jobs.view.live, refuse_database_errors():
                signal = dispatch(jobs, launcher, partial(run_job, threads=settings.threads))
            cut_off = signal is not None or jobs.must_stop
        except (Refused, OSError) as error:
            console.print(f"the sweep broke off: {error}", style="red", soft_wrap=True)
            cut_off = True
    entries = list(jobs.ledger.jobs.values())
    jobs.view.conclude(entries)
    lacking = jobs.conclude(cut_off)
    print_comparison(folder, ranking_metric(jobs.ledger.command), console)
    console.print(f"to compare:   ssl-runner compare {shlex.quote(str(folder))}", soft_wrap=True)
    console.print(f"to see it:    tensorboard --logdir {shlex.quote(str(folder))}", soft_wrap=True)
    if signal is not None:
        return 128 + signal
    if entries and lacking and all(each.status == "refused" for each in entries):
        return REFUSED
    return FAILED if lacking or cut_off else DONE


def print_comparison(folder: Path, metric: str | None, console: Console) -> None:
    """Compares the completed jobs, as groups of equal settings, over their seeds. Prints nothing of one alone."""
    runs, _, broken = load_runs([folder])
    completed = [run for run in runs if run.completed]
    for line in broken:
        console.print(line, soft_wrap=True)
    if len(completed) > 1:
        try:
            table = compare(completed, metric)
        except Unknown:
            table = compare(completed)
        console.print()
        print_terminal(table, console, ROWS)
        console.print()
