"""A sweep from its checked jobs to its table: begun anew, or gone on with where it stopped."""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.engine.checkpoint import read_json
from ssl_runner.engine.folder import claim, claim_new, locked
from ssl_runner.plugins.chosen import Plugin
from ssl_runner.sweep.handed_over import HandedOver
from ssl_runner.sweep.ledger import ENDED, Entry, Ledger
from ssl_runner.sweep.queue import Queue
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.view import View, conclude
from ssl_runner.sweep.watch import Watch

COMPLETED, FAILED, REFUSED = 0, 1, 2


@dataclass(frozen=True)
class Planned:
    """A job of a sweep, checked."""

    content: dict[str, Any]
    overrides: list[str]
    slug: str  # what tells it from the other jobs, as part of a folder's name


@dataclass(frozen=True)
class Sweep:
    """A sweep in its folder, which this process holds."""

    ledger: Ledger
    settings: Settings
    launcher: Plugin | None  # None is the runner's own queue
    console: Console
    watch: Watch

    def run(self, jobs: Sequence[Planned]) -> tuple[list[Entry], int | None]:
        """Runs those that are not done. Returns the entries of all, and the signal that cut it off."""
        entries = [self.ledger.add(each.overrides, each.slug) for each in jobs]
        todo = [entry for entry in entries if entry.status not in ENDED]
        for entry, each in zip(entries, jobs, strict=True):
            if entry in todo:
                self.ledger.prepare(entry, each.content)
        self.ledger.write()
        if not todo:
            return entries, None
        if self.launcher is not None:
            return entries, HandedOver(self.watch, todo, self.launcher).carry_out()
        return entries, Queue(self.watch, todo).carry_out()

    def conclude(self, entries: Sequence[Entry], signal: int | None) -> int:
        """Says what became of the jobs, and what to type next. Returns the exit status."""
        folder = shlex.quote(str(self.ledger.folder))
        conclude(entries, self.settings.metric, self.console)
        left = [each for each in entries if each.status not in ENDED]
        if left:
            self.console.print(f"{len(left)} jobs are not completed; to go on:")
            self.console.print(f"  ssl-runner -m sweep.resume={folder}", soft_wrap=True)
        self.console.print(f"to compare:   ssl-runner compare {folder}", soft_wrap=True)
        self.console.print(f"to see it:    tensorboard --logdir {folder}", soft_wrap=True)
        if signal is not None:
            return 128 + signal
        if not left:
            return COMPLETED
        return REFUSED if all(each.status == "refused" for each in entries) else FAILED


@contextlib.contextmanager
def opened(
    settings: Settings, command: Sequence[str], typed: str | None, launcher: Plugin | None, console: Console
) -> Iterator[Sweep]:
    """A new sweep, or the one to be gone on with.

    `command`: the words that make the sweep, without its own settings. `typed`: the folder that was asked for.
    Raises ValueError or OSError where the folder cannot be had, and Occupied where another process runs the sweep.
    """
    if settings.resume is not None:
        ledger = Ledger.open(Path(settings.resume))
    else:
        ledger = Ledger(claim(Path(typed)) if typed else claim_new(Path("outputs/sweeps")), command)
    with locked(ledger.folder):
        console.print(f"sweep in {ledger.folder}", soft_wrap=True)
        done = sum(each.status in ENDED for each in ledger.jobs.values())
        if done:
            console.print(f"{done} jobs are done already")
        with View(console, settings.metric) as view:
            yield Sweep(ledger, settings, launcher, console, Watch(ledger, settings, view.tell))


def grid(sweep: Sweep, jobs: Sequence[Planned]) -> int:
    """Runs every job. Returns the exit status."""
    return sweep.conclude(*sweep.run(jobs))


class CutOff(Exception):
    """A search was interrupted; what was being tried is tried first when it goes on."""


def search(sweep: Sweep, sweeper: Plugin, words: Sequence[str], plan: Callable[[list[str]], Planned | None]) -> int:
    """Lets a sweeper choose the jobs. Returns the exit status.

    `words`: what is searched, in Hydra's syntax. `plan` makes a job of a trial, None where it cannot be one.
    """
    from ssl_runner.plugins.optimise import objective, optimise

    signal: int | None = None

    def evaluate(trials: list[list[str]]) -> list[float | None]:
        nonlocal signal
        planned = [plan(trial) for trial in trials]
        entries, signal = sweep.run([each for each in planned if each is not None])
        if signal is not None:
            raise CutOff
        summaries = iter([read_json(sweep.watch.folder(entry) / "summary.json") for entry in entries])
        return [None if each is None else objective(next(summaries), sweep.settings.metric) for each in planned]

    try:
        result = optimise(sweeper, sweep.ledger.folder, words, evaluate)
        best = "no trial has a value" if result.best is None else f"the best has {result.best:.4g}"
        sweep.console.print(f"{result.trials} trials, {best}: {' '.join(result.overrides)}", soft_wrap=True)
    except CutOff:
        pass
    return sweep.conclude(list(sweep.ledger.jobs.values()), signal)
