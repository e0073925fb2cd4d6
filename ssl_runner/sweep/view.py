"""What a person sees of a sweep: a live table on a terminal, a line for each beginning and end elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssl_runner.engine.progress import clock
from ssl_runner.sweep.ledger import Entry

STYLE = {"completed": "green", "failed": "red", "refused": "red", "interrupted": "yellow", "stopped": "yellow"}
COUNTED = ("completed", "stopped", "running")  # jobs whose number may be the best so far
SHOWN = 12  # jobs in the live table


class View:
    """Tells of a sweep while it runs. `smaller`: the smaller the metric, the better."""

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

    def say(self, line: str) -> None:
        self.console.print(line, style="red", soft_wrap=True)

    def tell(self, entries: Sequence[Entry], changed: Entry | None) -> None:
        """Shows how things are; `changed` has just begun or ended."""
        if changed is not None and changed.status == "running":
            self.began[changed.number] = time.perf_counter()
        if self.live:
            self.live.update(self.table(entries), refresh=True)
        elif changed is not None:
            done = sum(each.status not in ("waiting", "running") for each in entries)
            self.console.print(f"[{done}/{len(entries)}] {changed.folder}: {self.said(changed)}", soft_wrap=True)

    def said(self, entry: Entry) -> str:
        if entry.status == "running":
            return "begins" if entry.attempts == 1 else f"goes on (attempt {entry.attempts})"
        value = entry.final.get(self.metric)
        parts = [entry.status, f"{entry.seconds:.0f} s", f"{self.metric} {value:.4g}" if value is not None else ""]
        return ", ".join(filter(None, parts)) + (f": {entry.error}" if entry.error else "")

    def table(self, entries: Sequence[Entry]) -> Group:
        counts = Counter(each.status for each in entries)
        states = ("completed", "running", "failed", "refused", "stopped", "interrupted", "waiting")
        words = [f"{counts[state]} {state}" for state in states if counts[state]]
        top = self.best(entries)
        line = f"{len(entries)} jobs: {', '.join(words)}"
        if top is not None:
            line += f"; best {self.metric} so far {top.final[self.metric]:.4g} ({top.folder})"
        table = Table("job", "progress", "", self.metric, "time", box=None, pad_edge=False)
        for each in sorted(entries, key=lambda e: (e.status != "running", -e.attempts, e.number))[:SHOWN]:
            value = each.final.get(self.metric)
            seconds = each.seconds
            if each.status == "running":
                seconds = time.perf_counter() - self.began.get(each.number, time.perf_counter())
            bar = ProgressBar(total=max(1, each.steps), completed=each.step, width=20)
            table.add_row(
                each.folder,
                bar if each.status == "running" else Text(each.status, style=STYLE.get(each.status, "dim")),
                f"{each.step}/{each.steps}" if each.steps else "",
                "" if value is None else f"{value:.4g}",
                clock(seconds) if seconds else "",
            )
        return Group(Text(line, style="bold"), table)

    def best(self, entries: Sequence[Entry]) -> Entry | None:
        """The job with the best last value; that of a job that failed is of no use to anybody."""
        counted = [each for each in entries if each.status in COUNTED and self.metric in each.final]
        choose = min if self.smaller else max
        return choose(counted, key=lambda each: each.final[self.metric], default=None)

    def conclude(self, entries: Sequence[Entry]) -> None:
        """What became of each job; an error's last line is beside it, and the whole of it in the job's run.log."""
        table = Table("job", "status", "s", self.metric, "", box=None, pad_edge=False)
        table.columns[2].justify = table.columns[3].justify = "right"
        for each in entries:
            value = each.final.get(self.metric)
            shown = "" if value is None else f"{value:.4g}"
            line = ((each.error or "").splitlines() or [""])[-1]
            if self.console.is_terminal:
                status = Text(each.status, style=STYLE.get(each.status, ""))
                table.add_row(each.folder, status, f"{each.seconds:.0f}", shown, line)
            else:
                number = f"{self.metric} {shown}" if shown else ""
                words = (each.folder, each.status, f"{each.seconds:.0f} s", number, line)
                self.console.print("  ".join(filter(None, words)), soft_wrap=True)
        if self.console.is_terminal:
            self.console.print(table)
        ended = [each for each in entries if each.status in ("completed", "stopped")]
        possible = sorted({name for each in ended for name in each.final} | {n for each in ended for n in each.test})
        if possible and not any(self.metric in each.final for each in ended):
            self.console.print(f"no job has {self.metric}; possible are {', '.join(possible)}", soft_wrap=True)
