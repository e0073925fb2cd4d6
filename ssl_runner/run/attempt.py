"""One attempt at a run: train from the start or from a checkpoint, measure and export, in one process or in several."""

import logging
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.config.override import leaves
from ssl_runner.config.trust import read_project
from ssl_runner.contract import Data, Dataset
from ssl_runner.device import ranks
from ssl_runner.device.sharding import whole
from ssl_runner.encoder.load import input_of
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook, LogRows
from ssl_runner.engine.loggers import Loggers
from ssl_runner.engine.memory import advise, is_out_of_memory
from ssl_runner.errors import DONE, FAILED, STOPPED, Diverged, ProcessFailed, Refused
from ssl_runner.run.forecast import forecast
from ssl_runner.run.history import History, check_config
from ssl_runner.run.initial import initial_weights
from ssl_runner.run.report import hparams, mark_summary, print_beginning, print_end, write_summary
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.assets import write_assets
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.environment import describe, versions
from ssl_runner.run_folder.layout import ENCODER, ENVIRONMENT, SUMMARY, WEIGHTS
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.run_folder.weights import serialise_weights

if TYPE_CHECKING:
    from ssl_runner.engine.trainer import Trainer
    from ssl_runner.run.preflight import PreparedJob

NOTICE = "the run saves and ends before its next step; a second Ctrl-C ends it at once"
State = tuple[Path, dict[str, Any]]  # a checkpoint that was read

log = logging.getLogger("ssl_runner")


@dataclass
class Attempt:
    """One job in one folder. Whatever happens, summary.json says how it ended.

    Each of several processes has an attempt of its own, and the first one alone writes.
    """

    assemble: Callable[..., "Trainer"]  # run.assemble.assemble
    prepared: "PreparedJob"
    dataset: Dataset
    data: Data
    folder: Path
    console: Console
    history: History
    newest: Sequence[State] = ()  # the checkpoint to go on from, if there is one
    older: Iterable[State] = ()  # those before it, newest first: to go on from if it does not fit
    rewrites: bool = False  # whether overrides changed the config, so that the folder's must be written again
    trainer: "Trainer | None" = field(default=None, init=False)
    logbook: LogRows | None = field(default=None, init=False)
    step: int = field(default=0, init=False)

    def carry_out(self) -> int:
        """Trains, measures and exports. Returns the exit status.

        One of several processes that fails raises the reason: the launcher then ends the others.
        """
        status, error = "failed", None
        failure: BaseException | None = None
        self.known = read_summary(self.folder).get("metrics", {})  # meanings of numbers of the attempt before
        with Interrupt(NOTICE if ranks.is_first() else "") as interrupt:
            try:
                status = self.train(interrupt)
            except KeyboardInterrupt as reason:  # the second one, which does not wait for a checkpoint
                status, interrupt.signal, failure = "interrupted", signal.SIGINT, reason
            except (Diverged, checkpoint.Unreadable) as reason:
                error = str(reason)
                log.error("%s", reason)
            except OSError as reason:
                failure = reason
                kept = self.trainer and self.trainer.last_good
                error = f"{self.place}{reason}; the newest checkpoint is {kept}" if kept else f"{self.place}{reason}"
                log.error("%s; when that is mended: ssl-runner resume %s", error, self.folder)
            except Refused:
                raise
            except Exception as reason:  # a bug: its traceback is in run.log, and the summary says so
                failure, error = reason, f"{self.place}{explain_timeout(reason)}{type(reason).__name__}: {reason}"
                log.exception("the run failed: %s", error)
                if self.trainer is not None and is_out_of_memory(reason):
                    error = f"{self.place}{advise(self.trainer.learner, reason)}"
                    log.error("%s", error)
            summary = self.close(status, error)
        if failure is not None and ranks.count() > 1:
            raise failure if error is None else ProcessFailed(error) from failure
        if ranks.is_first():
            print_end(summary, self.folder, self.console)
        interrupted = 128 + int(interrupt.signal or signal.SIGINT)
        return {"completed": DONE, "failed": FAILED, "stopped": STOPPED}.get(status, interrupted)

    def train(self, interrupt: Interrupt) -> str:
        """Trains, and returns `completed`, `stopped` or `interrupted`. Raises Refused, Diverged, OSError."""
        folder, job, content, data = self.folder, self.prepared.job, self.prepared.content, self.data
        paths, rows = self.prepared.composed.start, self.history.data["rows"]
        initial = None if ranks.of_first(bool(self.newest)) else initial_weights(content, paths, data.assets)
        run = self.assemble(job, self.dataset, data, folder, self.console, begun_with=rows, initial=initial)
        self.trainer = run
        start = self.step = run.restore(chain(self.newest, self.older))
        self.newest = ()  # it takes as much memory as the model and the optimizer
        check_config(folder, run.restored.get("config", content), content, self.history)
        known = run.restored.get("input")
        given = known if isinstance(known, dict) else input_of(job.model, self.dataset.samples, data, initial)
        record = {"config": stamped(content), "versions": versions(), "input": given, **self.history.record}
        run.provenance = {**run.provenance, **record}
        print_beginning(run, job, data, self.dataset.samples, start)
        run.progress.forecast = forecast(run, job, self.dataset.samples)
        book = self.open_logbook(run, start) if ranks.is_first() else LogRows([])
        book.rows = ranks.of_first(book.rows)
        self.logbook = book
        with run.progress:
            self.step = run.fit(start, book, interrupt)
        weights = whole(run.measurements.encoder.state_dict())
        if ranks.is_first():
            write(folder / WEIGHTS, serialise_weights(weights))
            write(folder / ENCODER, files.dump(stamped({**content["model"], **given})))
        if self.step == run.length.steps:
            return "completed"
        return "stopped" if run.stopped else "interrupted"

    def open_logbook(self, run: "Trainer", start: int) -> Logbook:
        """Opens the log of the run, and writes the files that describe it. Raises OSError."""
        folder, content, overrides = self.folder, self.prepared.content, self.prepared.overrides
        if not (folder / ENVIRONMENT).exists():
            paths, own = self.prepared.composed.start, read_project().code
            device, digest = str(run.learner.device), self.data.fingerprint
            describe(folder, device=device, fingerprint=digest, start=paths, project=own)
        write_assets(self.data.assets, folder)
        if self.rewrites:
            self.record("running")  # first: a completed run of another length is not completed
            files.write_config(folder, overrides, content)
        loggers = Loggers(self.prepared.job.loggers, folder, leaves(content))
        book = self.logbook = Logbook(folder, start if run.last_good else None, loggers)
        book.begin(hparams(content, overrides))
        book.text("config", f"```yaml\n{files.dump(content)}\n```")
        self.record("running")
        return book

    @property
    def place(self) -> str:
        """`process 1 of 3, at step 70: `; nothing if there is one process."""
        step = self.trainer.step if self.trainer else self.step
        return f"process {ranks.rank()} of {ranks.count()}, at step {step}: " if ranks.count() > 1 else ""

    def record(self, status: str, error: str | None = None) -> dict[str, Any]:
        """Writes summary.json. Raises OSError."""
        if not ranks.is_first():
            return {}
        seconds = self.logbook.seconds if self.logbook else 0.0
        more = self.history.changes, self.prepared.content.get("init") is not None
        return write_summary(self.folder, status, self.trainer, self.step, seconds, self.known, error, *more)

    def close(self, status: str, error: str | None) -> dict[str, Any]:
        """Writes the last summary and closes every file, also on a disk that refuses. Returns the summary."""
        if self.trainer is not None and status != "completed":
            self.step = max(self.step, self.trainer.checked)
        summary: dict[str, Any] = {"status": "failed", "step": self.step, "steps": 0}
        try:
            unlogged = ranks.is_first() and self.logbook is None and (self.folder / SUMMARY).exists()
            summary = mark_summary(self.folder, status, error) if unlogged else self.record(status, error)
        except OSError as reason:
            log.error("the summary could not be written: %s", reason)
        with suppress(Exception):  # TensorBoard's writer passes on whatever its thread died of
            if self.logbook is not None:
                self.logbook.close(status)
        if self.trainer is not None:
            self.trainer.learner.loader.close()
        return summary


def explain_timeout(reason: Exception) -> str:
    """What comes before torch's own words if a collective operation timed out; empty for any other error."""
    timed_out = ranks.count() > 1 and re.search("timed? ?out", str(reason), re.IGNORECASE)
    return "another process took no part in it for as long as device.timeout allows: " if timed_out else ""
