"""Jobs of a sweep: which begin next, how far the running ones are, which of them are stopped, how each ended."""

import contextlib
import shlex
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from ssl_runner.config import files
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.errors import FAILED, REFUSED, plural
from ssl_runner.run_folder.atomic import read_text
from ssl_runner.run_folder.layout import CONFIG, CONSOLE, METRICS, STOP
from ssl_runner.run_folder.lock import held
from ssl_runner.run_folder.summary import ENDED, RANKED_BY, read_summary
from ssl_runner.sweep.dispatch import LOOK
from ssl_runner.sweep.launcher.remote import REPORTS
from ssl_runner.sweep.ledger import Entry, Ledger, job_key
from ssl_runner.sweep.objective import Curve, Halving, Points, is_better_smaller, value
from ssl_runner.sweep.settings import ranking_metric
from ssl_runner.sweep.view import View

if TYPE_CHECKING:
    from ssl_runner.sweep.read import Request

PATIENCE = 120.0  # seconds for the jobs of a sweep that was killed to save and end


class Jobs:
    """The jobs of a grid: those that were typed, or those of a ledger. `Search` has the jobs that Optuna chooses."""

    def __init__(self, ledger: Ledger, request: "Request", console: Console):
        settings, optuna = request.settings, request.optuna
        smaller = optuna.direction == "minimize" if optuna else is_better_smaller(settings.metric)
        self.ledger, self.request, self.console, self.metric = ledger, request, console, settings.metric
        self.halving = Halving(settings.halving, settings.first_rung, smaller) if settings.halving else None
        self.on_error, self.must_stop = settings.on_error, False  # no other job is to begin
        self.view = View(console, settings.metric, smaller, () if ranking_metric(ledger.command) else RANKED_BY)
        self.waiting: list[Entry] = []
        self.curves: dict[int, Curve] = {}  # by number
        self.disk_refuses = False
        for entry in ledger.jobs.values():
            self.refresh(entry)

    @property
    def left(self) -> bool:
        return bool(self.waiting)

    def collect(self) -> int | None:
        """Makes the folders of the jobs to be run. Returns a signal that came while earlier jobs were awaited.

        Raises OSError, and ValueError if the jobs typed are those of another sweep.
        """
        known, typed = self.ledger.jobs, self.request.jobs
        if self.request.recorded:
            entries = [each for each in known.values() if each.status not in ENDED]
            lacking = [each for each in entries if not (self.folder(each) / CONFIG).exists()]
            contents = {each.number: self.request.compose(each.overrides) for each in lacking}
        elif known and not any(job_key(each.overrides) in known for each in typed):
            folder = shlex.quote(str(self.ledger.folder))
            none = "the job typed is none" if len(typed) == 1 else f"none of the {len(typed)} jobs typed is one"
            line = f"{none} of the {len(known)} in {folder}; to go on with those"
            line += f" type ssl-runner -m sweep.resume={folder}, and for a sweep of the ones typed leave it out"
            raise ValueError(f"sweep.resume: {line}")
        else:
            groups = self.request.composer.groups
            common = set.intersection(*(set(each.overrides) for each in typed))
            entries = [self.ledger.add(each.overrides, common, groups, self.request.subfolder) for each in typed]
            contents = {entry.number: each.content for entry, each in zip(entries, typed, strict=True)}
        self.ledger.write()  # also what jobs have come to since a sweep that was killed wrote it
        self.waiting, cut_off = self.wait(entries)
        if cut_off is None:
            self.prepare(self.waiting, contents)
        return cut_off

    def wait(self, entries: Sequence[Entry]) -> tuple[list[Entry], int | None]:
        """Waits for jobs of a killed sweep to save. Returns the entries to be run, and the signal that cut it off."""
        for each in self.ledger.folder.glob(f"{REPORTS}*"):  # those of an earlier launch save and end without it
            shutil.rmtree(each, ignore_errors=True)
        todo = list({entry.number: entry for entry in entries if entry.status not in ENDED}.values())
        waited = busy = [entry for entry in todo if held(self.folder(entry))]
        if busy:
            self.console.print(f"waiting for {len(busy)} of the jobs, at work since an earlier start, to save")
        until = time.monotonic() + PATIENCE
        with Interrupt() as interrupt:
            while busy and interrupt.signal is None and time.monotonic() < until:
                time.sleep(LOOK)
                busy = [entry for entry in busy if held(self.folder(entry))]
        for entry in waited:
            self.refresh(entry)
        for entry in busy:
            entry.status, entry.error = "interrupted", "another process is at work in its folder"
        return [each for each in todo if each not in busy and each.status not in ENDED], interrupt.signal

    def prepare(self, entries: Sequence[Entry], contents: Mapping[int, dict[str, Any]]) -> None:
        """Makes run folders. `contents`: configs by number, of the jobs that may have none yet. Raises OSError.

        A config is written anew until there is a checkpoint; then the job goes on with the one that it has.
        """
        for entry in entries:
            folder, content = self.folder(entry), contents.get(entry.number)
            (folder / STOP).unlink(missing_ok=True)  # of the attempt before
            if content is None:
                continue
            if not (folder / CONFIG).exists() or not any(folder.glob("checkpoints/*.pt")):
                files.write_config(folder, entry.overrides, content)
                continue
            with contextlib.suppress(OSError, ValueError):  # the job itself will say so
                old, new = files.read(folder / CONFIG), yaml.safe_load(files.dump(content))
                if keys := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
                    line = f"{entry.folder} goes on with its own config, in which {', '.join(keys)} differ"
                    self.console.print(line, style="yellow", soft_wrap=True)

    def folder(self, entry: Entry) -> Path:
        return self.ledger.folder / entry.folder

    def take(self, places: int | None) -> list[Entry]:
        """Jobs to begin now; none if there are none now."""
        return [self.waiting.pop(0) for _ in self.waiting[:places]]

    def begin(self, entry: Entry) -> None:
        entry.status, entry.error, entry.attempts = "running", None, entry.attempts + 1
        self.record(entry)

    def follow(self, entries: Sequence[Entry]) -> None:
        """Reads how far running jobs are, and requests the stop of those that are not worth going on."""
        for entry in entries:
            curve = self.curve(entry)
            if not curve.read():
                continue
            entry.step = curve.step
            entry.steps = entry.steps or read_summary(self.folder(entry)).get("steps", 0)
            if curve.points:
                entry.final[self.metric] = curve.points[-1][1]
            if reason := self.stop_reason(entry, self.points(entry)):
                with contextlib.suppress(OSError):  # reported when the ledger is written
                    (self.folder(entry) / STOP).write_text(f"{self.metric} {reason}\n", encoding="utf-8")
        self.view.show(self.ledger.jobs.values())

    def stop_reason(self, entry: Entry, points: Points) -> str | None:
        return self.halving.stop_reason(entry.folder, points) if self.halving else None

    def refresh(self, entry: Entry) -> None:
        """Reads how a job ended from its own files: its metric is for the table, for a search and for halving."""
        summary, curve = self.ledger.refresh(entry), self.curve(entry)
        lacking = entry.status in ENDED and self.metric not in entry.final
        if self.halving or lacking:
            curve.read()
        if lacking and (number := value(summary, curve.points, self.metric)) is not None:
            entry.final[self.metric] = number
        if self.halving:
            self.halving.remember(entry.folder, self.points(entry))

    def end(self, entry: Entry, status: int) -> None:
        """Records how a job ended, by its files and by the exit status of its process: -N if signal N killed it."""
        self.refresh(entry)
        output = read_text(self.folder(entry) / CONSOLE).strip().rpartition("\n")[2]
        if status == REFUSED:
            entry.status, entry.error = "refused", output.removeprefix("refused: ")
        elif entry.status == "interrupted" and status in (0, FAILED):
            entry.status, entry.error = "failed", output or f"exit status {status}"
        elif entry.status == "interrupted" and status < 0 and status != -signal.SIGTERM:
            memory = ": out of memory?" if status == -signal.SIGKILL else ""
            entry.status, entry.error = "failed", f"killed by {signal.Signals(-status).name}{memory}"
        self.must_stop |= entry.status in ("failed", "refused") and self.on_error == "stop"
        self.record(entry)

    def curve(self, entry: Entry) -> Curve:
        return self.curves.setdefault(entry.number, Curve(self.folder(entry) / METRICS, self.metric))

    def points(self, entry: Entry) -> Points:
        return [(step / entry.steps, number) for step, number in self.curve(entry).points] if entry.steps else []

    def record(self, entry: Entry) -> None:
        """Writes the ledger. If the disk refuses, that is reported once: the jobs' own files say how they ended."""
        try:
            self.ledger.write()
        except OSError as error:
            if not self.disk_refuses:
                self.console.print(f"{self.ledger.folder} could not be written: {error}", style="red", soft_wrap=True)
            self.disk_refuses = True
        self.view.show(self.ledger.jobs.values(), entry)

    def conclude(self, cut_off: bool) -> bool:
        """Prints how many jobs are left and how to go on. Returns whether any are left."""
        entries = list(self.ledger.jobs.values())
        left = [each for each in entries if each.status not in ENDED]
        if left or not entries:
            self.console.print(f"not completed: {len(left)} of {plural(len(entries), 'job')}; to go on:")
            self.console.print(f"  ssl-runner -m sweep.resume={shlex.quote(str(self.ledger.folder))}", soft_wrap=True)
        return bool(left)
