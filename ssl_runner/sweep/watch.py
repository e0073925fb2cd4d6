"""What a sweep learns of its jobs while they run, and what has become of them."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ssl_runner.engine.checkpoint import read_json
from ssl_runner.engine.logbook import read as read_rows
from ssl_runner.engine.trainer import STOP
from ssl_runner.sweep.halving import Halving
from ssl_runner.sweep.ledger import Entry, Ledger
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.worker import OUTPUT

Tell = Callable[[Sequence[Entry], Entry | None], None]


class Watch:
    """Keeps the ledger. `tell` is called at each look, and with an entry where it has begun or ended."""

    def __init__(self, ledger: Ledger, settings: Settings, tell: Tell):
        self.ledger, self.settings = ledger, settings
        self._tell = tell
        self.halving = Halving(settings.halving, settings.first_rung) if settings.halving else None
        self.failed = False  # whether a job has, which may end the sweep

    def folder(self, entry: Entry) -> Path:
        return self.ledger.folder / entry.folder

    def tell(self, changed: Entry | None = None) -> None:
        self._tell(list(self.ledger.jobs.values()), changed)

    def begun(self, entry: Entry) -> None:
        entry.status, entry.error = "running", None
        entry.attempts += 1
        self.ledger.write()
        self.tell(entry)

    def follow(self, entry: Entry) -> None:
        """How far a running job is, and whether it is worth going on."""
        rows = read_rows(self.folder(entry) / "metrics.jsonl")
        if not rows:
            return
        metric = self.settings.metric
        entry.step = rows[-1]["step"]
        entry.steps = entry.steps or read_json(self.folder(entry) / "summary.json").get("steps", 0)
        for row in rows:
            entry.final |= {name: value for name, value in row.items() if name == metric}
        if self.halving is None or not entry.steps:
            return
        curve = [(row["step"] / entry.steps, row[metric]) for row in rows if metric in row]
        if reason := self.halving.hopeless(entry.folder, curve):
            (self.folder(entry) / STOP).write_text(f"{metric} {reason}\n")

    def ended(self, entry: Entry, status: int) -> None:
        """What became of a job whose process has ended with an exit status, or was killed by signal `-status`."""
        self.ledger.refresh(entry)
        said = last_line(self.folder(entry) / OUTPUT)
        if status == 2:
            entry.status, entry.error = "refused", said.removeprefix("refused: ")
        elif entry.status == "waiting" or (entry.status == "interrupted" and status in (0, 1)):
            entry.status, entry.error = "failed", said or f"exit status {status}"
        elif entry.status == "interrupted" and status < 0 and status != -signal.SIGTERM:
            entry.status, entry.error = "failed", died(-status)
        self.failed = self.failed or entry.status in ("failed", "refused")
        self.ledger.write()
        self.tell(entry)

    @property
    def must_stop(self) -> bool:
        """Whether a job has failed after which no other is to begin."""
        return self.failed and self.settings.on_error == "stop"


def died(number: int) -> str:
    """What a process was killed by."""
    name = signal.Signals(number).name
    return f"killed by {name}" + (": out of memory?" if number == signal.SIGKILL else "")


def last_line(path: Path) -> str:
    """The last line that says something."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
