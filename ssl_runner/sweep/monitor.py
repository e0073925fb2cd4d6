"""Monitor of running jobs: progress, metric curve, final status."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner.errors import FAILED, REFUSED
from ssl_runner.run_folder.layout import CONSOLE, METRICS, STOP
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.sweep import objective
from ssl_runner.sweep.halving import Curve, Halving
from ssl_runner.sweep.ledger import ENDED, Entry, Ledger
from ssl_runner.sweep.tail import Tail

if TYPE_CHECKING:
    from ssl_runner.sweep.settings import Settings
    from ssl_runner.sweep.view import View


class JobMonitor:
    """Tracks running jobs, keeps the ledger, and tells the view. `smaller`: the smaller the metric, the better.

    `pruner` gives a reason to stop a job by its curve, or None.
    """

    def __init__(self, ledger: Ledger, settings: "Settings", view: "View", smaller: bool):
        self.ledger, self.metric, self.on_error, self.view = ledger, settings.metric, settings.on_error, view
        self.halving = Halving(settings.halving, settings.first_rung, smaller) if settings.halving else None
        self.pruner: Callable[[Entry, Curve], str | None] = lambda entry, curve: None
        self.must_stop = False  # whether a job has failed after which no other is to begin
        self._tails: dict[int, Tail] = {}  # by number
        self._reported: set[str] = set()
        for entry in ledger.jobs.values():
            self.measure(entry)

    def folder(self, entry: Entry) -> Path:
        return self.ledger.folder / entry.folder

    def begin(self, entry: Entry) -> None:
        entry.status, entry.error = "running", None
        entry.attempts += 1
        self._record(entry)

    def follow(self, entries: Sequence[Entry]) -> None:
        """Reads how far running jobs are, and requests the stop of those that are not worth going on."""
        for entry in entries:
            tail, folder = self._tail(entry), self.folder(entry)
            if not tail.read():
                continue
            entry.step = tail.step
            entry.steps = entry.steps or int(read_summary(folder).get("steps") or 0)
            if tail.curve:
                entry.final[self.metric] = tail.curve[-1][1]
            reason = self.halving.stop_reason(entry.folder, self._curve(entry)) if self.halving else None
            if reason := reason or self.pruner(entry, self._curve(entry)):
                self._write(folder / STOP, (folder / STOP).write_text, f"{self.metric} {reason}\n")
        self.view.show(list(self.ledger.jobs.values()))

    def measure(self, entry: Entry) -> None:
        """Finds the metric of a job that has ended: for the table, for a search, for others to be judged by."""
        lacking = entry.status in ENDED and self.metric not in entry.final
        if self.halving or lacking:
            self._tail(entry).read()
        if lacking:
            summary = read_summary(self.folder(entry))
            if (value := objective.value(summary, self._tail(entry).curve, self.metric)) is not None:
                entry.final[self.metric] = value
        if self.halving:
            self.halving.remember(entry.folder, self._curve(entry))

    def end(self, entry: Entry, status: int) -> None:
        """Takes over what became of a job, whose process has an exit status or was killed by signal `-status`."""
        self.ledger.refresh(entry)
        output = last_line(self.folder(entry) / CONSOLE)
        if status == REFUSED:
            entry.status, entry.error = "refused", output.removeprefix("refused: ")
        elif entry.status == "interrupted" and status in (0, FAILED):
            entry.status, entry.error = "failed", output or f"exit status {status}"
        elif entry.status == "interrupted" and status < 0 and status != -signal.SIGTERM:
            memory = ": out of memory?" if status == -signal.SIGKILL else ""
            entry.status, entry.error = "failed", f"killed by {signal.Signals(-status).name}{memory}"
        self.measure(entry)
        self.must_stop |= entry.status in ("failed", "refused") and self.on_error == "stop"
        self._record(entry)

    def _tail(self, entry: Entry) -> Tail:
        return self._tails.setdefault(entry.number, Tail(self.folder(entry) / METRICS, self.metric))

    def _curve(self, entry: Entry) -> Curve:
        return [(step / entry.steps, value) for step, value in self._tail(entry).curve] if entry.steps else []

    def _record(self, entry: Entry) -> None:
        self._write(self.ledger.folder, self.ledger.write)
        self.view.show(list(self.ledger.jobs.values()), entry)

    def _write(self, path: Path, write: Callable[..., object], *content: str) -> None:
        """A disk that refuses ends no job, whose own files say what became of it. It is reported once."""
        try:
            write(*content)
        except OSError as error:
            if (line := f"{path} could not be written: {error}") not in self._reported:
                self._reported.add(line)
                self.view.warn(line)


def last_line(path: Path) -> str:
    """The last line of a file that is not blank; empty if there is none."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
