"""Run of a sweep: from the configs of its jobs to the launcher, and to the table at the end."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.errors import DONE, FAILED, REFUSED
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import CONFIG, OVERRIDES, STOP
from ssl_runner.run_folder.lock import held
from ssl_runner.sweep.dispatch import LOOK, Jobs, Launcher, LauncherFailed, Run, dispatch
from ssl_runner.sweep.launcher.remote import release
from ssl_runner.sweep.ledger import ENDED, Entry, Ledger
from ssl_runner.sweep.monitor import JobMonitor
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.view import View

PATIENCE = 120.0  # seconds for the jobs of a sweep that was killed to save and end
NAMED = 5  # jobs in a line
Compare = Callable[[Path, str, Console], None]


@dataclass
class Sweep:
    """A sweep in its folder, which this process holds.

    `run_job` carries out the run of a folder; `compare` prints a comparison by a metric.
    """

    ledger: Ledger
    settings: Settings
    launcher: Launcher
    view: View
    monitor: JobMonitor
    run_job: Run
    compare: Compare
    begun: bool = field(default=False, init=False)  # whether jobs were handed to the launcher

    def wait_for_earlier(self, entries: Sequence[Entry]) -> tuple[list[Entry], int | None]:
        """Waits for jobs of a sweep that was killed, which save and end.

        Returns the entries that are to be run, each once, and the signal that cut the waiting off.
        """
        release(self.ledger.folder)
        todo = list({entry.number: entry for entry in entries if entry.status not in ENDED}.values())
        waited = busy = [entry for entry in todo if held(self.monitor.folder(entry))]
        if busy:
            self.view.console.print(f"waiting for {len(busy)} of the jobs, at work since an earlier start, to save")
        until = time.monotonic() + PATIENCE
        with Interrupt() as interrupt:
            while busy and interrupt.signal is None and time.monotonic() < until:
                time.sleep(LOOK)
                busy = [entry for entry in busy if held(self.monitor.folder(entry))]
        for entry in waited:
            self.ledger.refresh(entry)
            self.monitor.measure(entry)
        for entry in busy:
            entry.status, entry.error = "interrupted", "another process is at work in its folder"
        return [each for each in todo if each not in busy and each.status not in ENDED], interrupt.signal

    def prepare(self, entries: Sequence[Entry], contents: Mapping[int, dict[str, Any]]) -> None:
        """Makes run folders. `contents`: configs by number, of the jobs that may have none yet. Raises OSError.

        A config is written anew until there is a checkpoint; then the job goes on with the one that it has.
        """
        different = []
        for entry in entries:
            folder, content = self.monitor.folder(entry), contents.get(entry.number)
            (folder / STOP).unlink(missing_ok=True)  # of the attempt before
            if content is None:
                continue
            if not (folder / CONFIG).exists() or not any(folder.glob("checkpoints/*.pt")):
                write(folder / OVERRIDES, files.dump(list(entry.overrides)))
                write(folder / CONFIG, files.dump(stamped(content)))  # last: with it the folder is a run's
            elif keys := changed_keys(folder, content):
                different.append(f"{entry.folder} ({', '.join(keys)})")
        if different:
            names = ", ".join(different[:NAMED]) + ", ..." * (len(different) > NAMED)
            line = "jobs go on with the config in their folder, which is not what it would be now"
            self.view.console.print(f"{len(different)} {line}: {names}", style="yellow", soft_wrap=True)

    def run(self, entries: Sequence[Entry], contents: Mapping[int, dict[str, Any]]) -> int | None:
        """Runs the jobs that are not done. Returns the signal that cut them off. Raises LauncherFailed or OSError."""
        todo, signal = self.wait_for_earlier(entries)
        if signal is not None or not todo:
            return signal
        self.prepare(todo, contents)
        return self.dispatch(Jobs(self.monitor, todo))

    def dispatch(self, source: Jobs) -> int | None:
        self.begun = True
        with self.view:
            return dispatch(source, self.launcher, partial(self.run_job, threads=self.settings.threads))

    def conclude(self, act: Callable[[], int | None], searched: bool = False) -> int:
        """Runs jobs, says what became of them and what to type next. Returns the exit status.

        `act` returns the signal that cut it off. `searched`: what failed is not tried again.
        """
        signal, cut_off = None, False
        console, folder = self.view.console, shlex.quote(str(self.ledger.folder))
        try:
            signal = act()
            cut_off = signal is not None or self.monitor.must_stop
        except (LauncherFailed, OSError) as error:
            if not self.begun:
                raise
            console.print(f"the sweep broke off: {error}", style="red", soft_wrap=True)
            cut_off = True
        entries = list(self.ledger.jobs.values())
        self.view.conclude(entries)
        left = [each for each in entries if each.status not in ENDED]
        if searched and left and not cut_off:
            console.print(f"{len(left)} trials have no value")
        elif left or not entries:
            console.print(f"{len(left)} jobs are not completed; to go on:")
            console.print(f"  ssl-runner -m sweep.resume={folder}", soft_wrap=True)
        self.compare(self.ledger.folder, self.settings.metric, console)
        console.print(f"to compare:   ssl-runner compare {folder}", soft_wrap=True)
        console.print(f"to see it:    tensorboard --logdir {folder}", soft_wrap=True)
        if signal is not None:
            return 128 + signal
        if left and all(each.status == "refused" for each in entries):
            return REFUSED
        return FAILED if left or cut_off else DONE


def changed_keys(folder: Path, content: dict[str, Any]) -> list[str]:
    """Keys in which the config of a run folder is not `content`."""
    try:
        recorded = files.read(folder / CONFIG)
    except (OSError, ValueError):
        return []  # the job itself will say so
    now = yaml.safe_load(files.dump(content))
    return [key for key in {**recorded, **now} if recorded.get(key) != now.get(key)]
