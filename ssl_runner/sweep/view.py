"""Progress of a sweep: a live table on a terminal, elsewhere a line for each job that begins or ends."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssl_runner.engine.console import clock
from ssl_runner.sweep.ledger import ENDED, Entry

STYLE = {"completed": "green", "failed": "red", "refused": "red", "interrupted": "yellow", "stopped": "yellow"}
STATES = ("completed", "running", "failed", "refused", "stopped", "interrupted", "waiting")
SHOWN = 12  # jobs in the live table


class View:
    """Shows a sweep while it runs. `smaller`: the smaller the metric, the better."""

    def __init__(self, console: Console, metric: str, smaller: bool):
        self.console, self.metric, self.smaller = console, metric, smaller
        self.live: Live | None = None
        self.began: dict[int, float] = {}  # by number

    def __enter__(self) -> "View":
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.update(Text(""), refresh=True)
            self.live.stop()
            self.live = None

    def warn(self, line: str) -> None:
        self.console.print(line, style="red", soft_wrap=True)

    def number(self, entry: Entry) -> str:
        value = entry.final.get(self.metric)
        return "" if value is None else f"{value:.4g}"

    def show(self, entries: Sequence[Entry], changed: Entry | None = None) -> None:
        """Shows how things are; `changed` has just begun or ended."""
        if changed is not None and changed.status == "running":
            self.began[changed.number] = time.perf_counter()
        if self.live:
            self.live.update(self.table(entries), refresh=True)
        elif changed is not None:
            done = sum(each.status not in ("waiting", "running") for each in entries)
            line = f"{changed.status}, {changed.seconds:.0f} s"
            if changed.status == "running":
                line = "begins" if changed.attempts == 1 else f"goes on (attempt {changed.attempts})"
            elif number := self.number(changed):
                line += f", {self.metric} {number}"
            line += f": {changed.error}" if changed.error else ""
            self.console.print(f"[{done}/{len(entries)}] {changed.folder}: {line}", soft_wrap=True)

    def table(self, entries: Sequence[Entry]) -> Group:
        counts = Counter(each.status for each in entries)
        line = f"{len(entries)} jobs: {', '.join(f'{counts[state]} {state}' for state in STATES if counts[state])}"
        if (top := self.best(entries)) is not None:
            line += f"; best {self.metric} so far {self.number(top)} ({top.folder})"
        table = Table("job", "progress", "", self.metric, "time", box=None, pad_edge=False)
        for each in sorted(entries, key=lambda e: (e.status != "running", -e.attempts, e.number))[:SHOWN]:
            seconds = each.seconds
            progress: Text | ProgressBar = Text(each.status, style=STYLE.get(each.status, "dim"))
            if each.status == "running":
                seconds = time.perf_counter() - self.began.get(each.number, time.perf_counter())
                progress = ProgressBar(total=max(1, each.steps), completed=each.step, width=20)
            steps = f"{each.step}/{each.steps}" if each.steps else ""
            table.add_row(each.folder, progress, steps, self.number(each), clock(seconds) if seconds else "")
        return Group(Text(line, style="bold"), table)

    def best(self, entries: Sequence[Entry]) -> Entry | None:
        """The job with the best last value; that of a job that failed is of no use to anybody."""
        counted = [each for each in entries if each.status in (*ENDED, "running") and self.metric in each.final]
        choose = min if self.smaller else max
        return choose(counted, key=lambda each: each.final[self.metric], default=None)

    def conclude(self, entries: Sequence[Entry]) -> None:
        """Prints what became of each job, with the last line of its error; all of that is in the job's run.log."""
        for each in entries:
            number = f"{self.metric} {self.number(each)}" if self.number(each) else ""
            error = (each.error or "").splitlines()[-1:]
            words = (each.folder, each.status, f"{each.seconds:.0f} s", number, *error)
            self.console.print("  ".join(filter(None, words)), style=STYLE.get(each.status), soft_wrap=True)
        ended = [each for each in entries if each.status in ENDED]
        possible = sorted({name for each in ended for name in each.final})
        if possible and not any(self.metric in each.final for each in ended):
            self.console.print(f"no job has {self.metric}; possible are {', '.join(possible)}", soft_wrap=True)
