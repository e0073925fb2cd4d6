"""A sweep from its checked jobs to its table: begun anew, or gone on with where it stopped."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.errors import Refused
from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.launch import LauncherFailed, release
from ssl_runner.run_folder.claim import claim, claim_new
from ssl_runner.run_folder.layout import CONFIG, STOP, SWEEP
from ssl_runner.run_folder.lock import held, locked
from ssl_runner.sweep.compared import compared
from ssl_runner.sweep.handed_over import HandedOver
from ssl_runner.sweep.ledger import ENDED, Entry, Ledger, key_of
from ssl_runner.sweep.monitor import Watch
from ssl_runner.sweep.objective import is_better_smaller
from ssl_runner.sweep.queue import LOOK, Queue
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.view import View

COMPLETED, FAILED, REFUSED = 0, 1, 2
PATIENCE = 120.0  # seconds for the jobs of a sweep that was killed to save and end
NAMED = 5  # jobs in a line


@dataclass(frozen=True)
class Planned:
    """A job of a sweep, checked."""

    content: dict[str, Any]
    overrides: list[str]
    slug: str  # what tells it from the other jobs, as part of a folder's name


@dataclass
class Sweep:
    """A sweep in its folder, which this process holds."""

    ledger: Ledger
    settings: Settings
    launcher: Plugin | None  # None is the runner's own queue
    view: View
    watch: Watch
    begun: bool = field(default=False, init=False)  # whether a job was handed to a launcher

    @property
    def console(self) -> Console:
        return self.view.console

    def run(self, jobs: Sequence[Planned]) -> tuple[list[Entry], int | None]:
        """Runs those that are not done. Returns the entry of each, and the signal that cut it off."""
        entries = [self.ledger.add(each.overrides, each.slug) for each in jobs]
        self.ledger.write()
        contents = {entry.number: each.content for entry, each in zip(entries, jobs, strict=True)}
        return entries, self.go_on(entries, contents)

    def go_on(self, entries: Sequence[Entry], contents: Mapping[int, dict[str, Any]] | None = None) -> int | None:
        """Runs those that are not done, each once. `contents`: configs by number, of those that may have none yet."""
        every = {entry.number: entry for entry in entries if entry.status not in ENDED}
        todo, signal = self.free(list(every.values()))
        if signal is not None:
            return signal
        other = []
        for entry in todo:
            content = (contents or {}).get(entry.number)
            if content is not None:
                self.ledger.prepare(entry, content)
                if keys := self.ledger.differs(entry, content):
                    other.append(f"{entry.folder} ({', '.join(keys)})")
            (self.watch.folder(entry) / STOP).unlink(missing_ok=True)  # of the attempt before
        if other:
            names = ", ".join(other[:NAMED]) + ", ..." * (len(other) > NAMED)
            self.console.print(
                f"{len(other)} jobs go on with the config in their folder, which is not what it would be now: {names}",
                style="yellow",
                soft_wrap=True,
            )
        if not todo:
            return None
        self.begun = True
        with self.view:
            if self.launcher is not None:
                return HandedOver(self.watch, todo, self.launcher).carry_out()
            return Queue(self.watch, todo).carry_out()

    def free(self, todo: Sequence[Entry]) -> tuple[list[Entry], int | None]:
        """Waits for jobs of a sweep that was killed, which save and end. Returns what is to be done, and a signal."""
        release(self.ledger.folder)
        busy = [entry for entry in todo if held(self.watch.folder(entry))]
        waited = list(busy)
        if busy:
            self.console.print(f"waiting for {len(busy)} of the jobs, at work since an earlier start, to save")
        until = time.monotonic() + PATIENCE
        with Interrupt() as interrupt:
            while busy and interrupt.signal is None and time.monotonic() < until:
                time.sleep(LOOK)
                busy = [entry for entry in busy if held(self.watch.folder(entry))]
        for entry in waited:
            self.ledger.refresh(entry)
            self.watch.measured(entry)
        for entry in busy:
            entry.status, entry.error = "interrupted", "another process is at work in its folder"
        elsewhere = {entry.number for entry in busy}
        return [e for e in todo if e.number not in elsewhere and e.status not in ENDED], interrupt.signal

    def broke_off(self, error: Exception) -> None:
        """Raises the error where nothing has begun; else jobs have been run and are to be told of."""
        if not self.begun:
            raise error
        self.console.print(f"the sweep broke off: {error}", style="red", soft_wrap=True)

    def conclude(self, signal: int | None, searched: bool = False) -> int:
        """Says what became of the jobs, and what to type next. Returns the exit status.

        `searched`: a sweeper has all the trials that it wanted, and what failed is not tried again.
        """
        entries = list(self.ledger.jobs.values())
        folder = shlex.quote(str(self.ledger.folder))
        self.view.conclude(entries)
        left = [each for each in entries if each.status not in ENDED]
        if searched and left:
            self.console.print(f"{len(left)} trials have no value")
        elif left or not entries:
            self.console.print(f"{len(left)} jobs are not completed; to go on:")
            self.console.print(f"  ssl-runner -m sweep.resume={folder}", soft_wrap=True)
        compared(self.ledger.folder, self.settings.metric, self.console)
        self.console.print(f"to compare:   ssl-runner compare {folder}", soft_wrap=True)
        self.console.print(f"to see it:    tensorboard --logdir {folder}", soft_wrap=True)
        if signal is not None:
            return 128 + signal
        if not left:
            return COMPLETED
        return REFUSED if all(each.status == "refused" for each in entries) else FAILED


@contextlib.contextmanager
def opened(
    settings: Settings,
    command: Sequence[str],
    typed: str | None,
    launcher: Plugin | None,
    console: Console,
    smaller: bool | None = None,
) -> Iterator[Sweep]:
    """A new sweep, or the one to be gone on with.

    `command`: the words that make the sweep. `typed`: the folder that was asked for. `smaller`: whether the smaller
    metric is the better, where that is known by more than its name.
    Raises ValueError or OSError where the folder cannot be had, and Refused where another process runs the sweep.
    """
    folder = Path(settings.resume) if settings.resume is not None else place(typed)
    if settings.resume is not None and not (folder / SWEEP).is_file():
        raise ValueError(f"{folder} holds no sweep: there is no readable {SWEEP} in it")
    with locked(folder):
        if settings.resume is not None:
            ledger = Ledger.open(folder)
            ledger.command = list(command) or ledger.command  # written when something begins with it
        elif (folder / SWEEP).exists():  # begun by another process since the folder was looked at
            raise Refused(f"{folder} holds a sweep; go on with it: ssl-runner -m sweep.resume={folder}")
        else:
            ledger = Ledger(folder, command)
            ledger.write()  # from here on it can be gone on with
        console.print(f"sweep in {folder}", soft_wrap=True)
        done = sum(each.status in ENDED for each in ledger.jobs.values())
        if done:
            console.print(f"{done} jobs are done already")
        down = is_better_smaller(settings.metric) if smaller is None else smaller
        view = View(console, settings.metric, down)
        yield Sweep(ledger, settings, launcher, view, Watch(ledger, settings, view.tell, view.say, down))


def place(typed: str | None) -> Path:
    """A new sweep's folder; one in which a sweep was killed before its first word is as good as new."""
    if typed is None:
        return claim_new(Path("outputs/sweeps"))
    folder = Path(typed)
    if folder.is_dir() and [each.name for each in folder.iterdir()] == [".lock"]:
        return folder
    return claim(folder)


def grid(sweep: Sweep, jobs: Sequence[Planned]) -> int:
    """Runs every job. Returns the exit status. Raises ValueError where they are those of another sweep."""
    known = sweep.ledger.jobs
    if known and jobs and not any(key_of(each.overrides) in known for each in jobs):
        folder = shlex.quote(str(sweep.ledger.folder))
        raise ValueError(
            f"sweep.resume: none of the {len(jobs)} jobs typed is one of the {len(known)} in {folder}; to go on with "
            f"those type ssl-runner -m sweep.resume={folder}, and for a sweep of the ones typed leave sweep.resume out"
        )
    return carried_out(sweep, lambda: sweep.run(jobs)[1])


def again(sweep: Sweep, compose: Callable[[list[str]], dict[str, Any]]) -> int:
    """Goes on with every job that is not done, as its folder has it. Returns the exit status.

    `compose` makes the config of a job that was killed before it had one.
    """
    entries = list(sweep.ledger.jobs.values())
    lacking = [each for each in entries if not (sweep.watch.folder(each) / CONFIG).exists()]
    contents = {each.number: compose(each.overrides) for each in lacking if each.status not in ENDED}
    return carried_out(sweep, lambda: sweep.go_on(entries, contents))


def carried_out(sweep: Sweep, act: Callable[[], int | None]) -> int:
    try:
        return sweep.conclude(act())
    except (LauncherFailed, OSError) as error:
        sweep.broke_off(error)
        return max(FAILED, sweep.conclude(None))


class CutOff(Exception):
    """A search was interrupted; what was being tried is tried first when it goes on."""


def search(sweep: Sweep, sweeper: Plugin, words: Sequence[str], plan: Callable[[list[str]], Planned | None]) -> int:
    """Lets a sweeper choose the jobs. Returns the exit status, which is that of a failure where none has a value.

    `words`: what is searched, in Hydra's syntax. `plan` makes a job of a trial, None where it cannot be one.
    """
    from ssl_runner.plugins.optimise import optimise

    signal: int | None = None
    metric = sweep.settings.metric

    def go_on(act: Callable[[], int | None]) -> None:
        nonlocal signal
        signal = act()
        if signal is not None or sweep.watch.must_stop:
            raise CutOff

    def evaluate(trials: list[list[str]]) -> list[float | None]:
        planned = [plan(trial) for trial in trials]
        entries: list[Entry] = []

        def act() -> int | None:
            found, number = sweep.run([each for each in planned if each is not None])
            entries.extend(found)
            return number

        go_on(act)
        each_entry = iter(entries)
        ended = [None if each is None else next(each_entry) for each in planned]
        return [each.final.get(metric) if each and each.status in ENDED else None for each in ended]

    try:
        folders = {each.number: sweep.watch.folder(each) for each in sweep.ledger.jobs.values()}
        cut_off = [each for each in sweep.ledger.jobs.values() if each.status in ("waiting", "interrupted")]
        go_on(lambda: sweep.go_on([each for each in cut_off if (folders[each.number] / CONFIG).exists()]))
        result = optimise(sweeper, sweep.ledger.folder, words, evaluate, metric)
    except CutOff:
        return sweep.conclude(signal)
    except (LauncherFailed, OSError) as error:
        sweep.broke_off(error)
        return max(FAILED, sweep.conclude(None))
    best = "no trial has a value" if result.best is None else f"the best has {result.best:.4g}"
    sweep.console.print(f"{result.trials} trials, {best}: {' '.join(result.overrides)}", soft_wrap=True)
    return max(sweep.conclude(None, searched=True), FAILED if result.best is None else COMPLETED)
