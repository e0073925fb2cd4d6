"""What a sweep learns of its jobs while they run, and what has become of them."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ssl_runner.plugins.launch import last_line
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import CONSOLE, METRICS, STOP, SUMMARY
from ssl_runner.sweep import objective
from ssl_runner.sweep.halving import Halving
from ssl_runner.sweep.ledger import ENDED, Entry, Ledger
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.tail import Tail

Tell = Callable[[Sequence[Entry], Entry | None], None]


class Watch:
    """Keeps the ledger. `tell` is called at each look, and with an entry where it has begun or ended.

    `say` gets what is wrong with the disk. `smaller`: the smaller the metric, the better.
    """

    def __init__(self, ledger: Ledger, settings: Settings, tell: Tell, say: Callable[[str], None], smaller: bool):
        self.ledger, self.settings, self.smaller = ledger, settings, smaller
        self._tell, self._say = tell, say
        self._tails: dict[int, Tail] = {}  # by number
        self._said: set[str] = set()
        self.halving = Halving(settings.halving, settings.first_rung, smaller) if settings.halving else None
        self.failed = False  # whether a job has, which may end the sweep
        for entry in ledger.jobs.values():
            self.measured(entry)

    def folder(self, entry: Entry) -> Path:
        return self.ledger.folder / entry.folder

    def tell(self, changed: Entry | None = None) -> None:
        self._tell(list(self.ledger.jobs.values()), changed)

    def write(self) -> None:
        """The ledger; jobs go on without it where the disk refuses, since their own files say what became of them."""
        self.try_to(self.ledger.write, self.ledger.folder)

    def try_to(self, act: Callable[[], object], path: Path) -> None:
        """Does something to a disk. What is wrong with it is said once."""
        try:
            act()
        except OSError as error:
            if (line := f"{path} could not be written: {error}") not in self._said:
                self._said.add(line)
                self._say(line)

    def begun(self, entry: Entry) -> None:
        entry.status, entry.error = "running", None
        entry.attempts += 1
        self.write()
        self.tell(entry)

    def tail(self, entry: Entry) -> Tail:
        if entry.number not in self._tails:
            self._tails[entry.number] = Tail(self.folder(entry) / METRICS, self.settings.metric)
        return self._tails[entry.number]

    def curve(self, entry: Entry) -> list[tuple[float, float]]:
        return [(step / entry.steps, value) for step, value in self.tail(entry).curve] if entry.steps else []

    def follow(self, entry: Entry) -> None:
        """How far a running job is, and whether it is worth going on."""
        tail = self.tail(entry)
        if not tail.read():
            return
        entry.step = tail.step
        entry.steps = entry.steps or int(read_json(self.folder(entry) / SUMMARY).get("steps") or 0)
        if tail.curve:
            entry.final[self.settings.metric] = tail.curve[-1][1]
        if self.halving and (reason := self.halving.hopeless(entry.folder, self.curve(entry))):
            wish = self.folder(entry) / STOP
            self.try_to(lambda: wish.write_text(f"{self.settings.metric} {reason}\n"), wish)

    def measured(self, entry: Entry) -> None:
        """The metric of a job that has ended, for the table, for a sweeper, and for others to be judged by."""
        metric = self.settings.metric
        if self.halving or (entry.status in ENDED and metric not in entry.final):
            self.tail(entry).read()
        if entry.status in ENDED and metric not in entry.final:
            summary = read_json(self.folder(entry) / SUMMARY)
            if (value := objective.value(summary, self.tail(entry).curve, metric)) is not None:
                entry.final[metric] = value
        if self.halving:
            self.halving.remember(entry.folder, self.curve(entry))

    def ended(self, entry: Entry, status: int) -> None:
        """What became of a job whose process has ended with an exit status, or was killed by signal `-status`."""
        self.ledger.refresh(entry)
        said = last_line(self.folder(entry) / CONSOLE)
        if status == 2:
            entry.status, entry.error = "refused", said.removeprefix("refused: ")
        elif entry.status == "interrupted" and status in (0, 1):
            entry.status, entry.error = "failed", said or f"exit status {status}"
        elif entry.status == "interrupted" and status < 0 and status != -signal.SIGTERM:
            entry.status, entry.error = "failed", died(-status)
        self.measured(entry)
        self.failed = self.failed or entry.status in ("failed", "refused")
        self.write()
        self.tell(entry)

    @property
    def must_stop(self) -> bool:
        """Whether a job has failed after which no other is to begin."""
        return self.failed and self.settings.on_error == "stop"


def died(number: int) -> str:
    """What a process was killed by."""
    name = signal.Signals(number).name
    return f"killed by {name}" + (": out of memory?" if number == signal.SIGKILL else "")
