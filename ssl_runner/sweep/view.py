"""Progress of a sweep: a line for each job that begins or ends, and on a terminal how far the running ones are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from ssl_runner.run_folder.summary import ENDED

if TYPE_CHECKING:
    from ssl_runner.sweep.ledger import Entry

STYLE = {"completed": "green", "failed": "red", "refused": "red", "interrupted": "yellow", "stopped": "yellow"}
SHOWN = 12  # running jobs


class View:
    """Shows a sweep: while it runs by `with view.live`. `smaller`: the smaller the metric, the better. `ranked`: what
    the table at the end ranks by, the first that most jobs have; the best so far is told by it, and a job that has
    ended shows it, too. Running jobs show the metric, which is measured more often."""

    def __init__(self, console: Console, metric: str, smaller: bool, ranked: Sequence[str] = ()):
        self.console, self.metric, self.choose = console, metric, min if smaller else max
        self.ranked = ranked
        self.live = console.status("")

    def number(self, entry: Entry) -> str:
        names = (*self.ranked, self.metric) if entry.status in ENDED else (self.metric,)
        return next((f"{name} {entry.final[name]:.4g}" for name in names if name in entry.final), "")

    def show(self, entries: Collection[Entry], changed: Entry | None = None) -> None:
        """Shows how things are; `changed` has just begun or ended."""
        done = f"{sum(each.status not in ('waiting', 'running') for each in entries)}/{len(entries)}"
        if changed is not None:
            words = [f"{changed.status}, {changed.seconds:.0f} s", self.number(changed)]
            if changed.status == "running":
                words = ["begins" if changed.attempts == 1 else f"goes on (attempt {changed.attempts})"]
            line = f"[{done}] {changed.folder}: {', '.join(filter(None, words))}"
            self.console.print(f"{line}: {changed.error}" if changed.error else line, soft_wrap=True)
        # What a job had that failed is of no use to anybody.
        counted = [each for each in entries if each.status in (*ENDED, "running")]
        ended = [each for each in counted if each.status in ENDED]
        metric = max((*self.ranked, self.metric), key=lambda name: sum(name in each.final for each in ended))
        metric = metric if ended else self.metric
        having = (each for each in counted if metric in each.final)
        best = self.choose(having, key=lambda each: each.final[metric], default=None)
        first = f"; the best so far has {metric} {best.final[metric]:.4g} ({best.folder})" if best else ""
        lines = [f"{done} {'job' if len(entries) == 1 else 'jobs'} done{first}"]
        running = [each for each in entries if each.status == "running"][:SHOWN]
        lines += [f"  {each.folder}  {each.step}/{each.steps or '?'}  {self.number(each)}" for each in running]
        self.live.update("\n".join(lines))

    def conclude(self, entries: Collection[Entry]) -> None:
        """Prints what became of each job, with the last line of its error; all of that is in the job's run.log."""
        for each in entries:
            error = (each.error or "").splitlines()[-1:]
            words = (each.folder, each.status, f"{each.seconds:.0f} s", self.number(each), *error)
            self.console.print("  ".join(filter(None, words)), style=STYLE.get(each.status), soft_wrap=True)
        possible = sorted({name for each in entries if each.status in ENDED for name in each.final})
        if possible and not {*self.ranked, self.metric} & {*possible}:
            self.console.print(f"no job has {self.metric}; possible are {', '.join(possible)}", soft_wrap=True)
