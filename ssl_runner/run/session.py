"""Session of a run: begun in a new folder or resumed to bit-identical weights, then trained, measured and exported."""

import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.contract import Data, Dataset
from ssl_runner.encoder.load import input_of
from ssl_runner.engine.console import journal
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer
from ssl_runner.errors import DONE, FAILED, STOPPED, Diverged, Refused
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.history import History, check_config, check_overrides, describe_data, read_history, typed_length
from ssl_runner.run.initial import initial_weights
from ssl_runner.run.preflight import PreparedJob
from ssl_runner.run.prepare import recorded_job
from ssl_runner.run.report import hparams, print_beginning, print_end, write_summary
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.atomic import read_json, write
from ssl_runner.run_folder.environment import changed_versions, describe, versions
from ssl_runner.run_folder.layout import CHECKPOINTS, ENCODER, ENVIRONMENT, OVERRIDES, STOP, WEIGHTS
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.run_folder.weights import serialise_weights

State = tuple[Path, dict[str, Any]]  # a checkpoint that was read

log = logging.getLogger("ssl_runner")


def begin(prepared: PreparedJob, claim: Callable[[Data], Path], console: Console) -> int:
    """Runs a job in the new folder that `claim` makes, given the data that was read. Returns the exit status.

    Raises Refused if the data cannot be had or the folder cannot be made or written.
    """
    with journal(console) as book:
        dataset, data = load_data(prepared)
        try:
            folder = claim(data)
            with locked(folder):
                files.write_config(folder, prepared.overrides, prepared.content)
                book.attach(folder)
                return Session(prepared, dataset, data, folder, console, History(describe_data(data))).carry_out()
        except OSError as error:
            raise Refused(f"run folder: {error}") from None


def resume(
    folder: Path, console: Console, *, overrides: Sequence[str] = (), anew: bool = False, other_data: bool = False
) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start if there is none.

    `overrides`: harmless settings and the length, which its config then records. `anew`: a request to stop it, from the
    attempt before, is forgotten; a sweep, which stops jobs, does that itself. `other_data`: its data may be others.
    Raises Refused if the folder holds no run, or a running one, or one that this version, its config or its data does
    not fit.
    """
    done = read_summary(folder).get("status") == "completed"
    prepared = recorded_job(folder, overrides, begins=not (done or checkpoint.steps(folder / CHECKPOINTS)))
    if overrides:
        check_overrides(folder, prepared)
    completed = f"{folder} is completed already; to train longer, type ssl-runner resume {folder} length=NNNep"
    try:
        with journal(console) as book, locked(folder):
            done = read_summary(folder).get("status") == "completed"
            if done and typed_length(overrides) is None:
                console.print(completed, soft_wrap=True, highlight=False)
                return DONE
            begun = (folder / OVERRIDES).exists()  # else a config may have come here by itself
            if begun:
                book.attach(folder)
            states = checkpoint.newest_first(folder / CHECKPOINTS)
            newest = list(islice(states, 1))
            if done and not newest:
                raise Refused(f"{folder} holds no checkpoint to go on from; type ssl-runner rerun {folder}")
            before = read_history(newest[0][1] if newest else {}, folder)
            with book.failures():
                dataset, data = load_data(prepared, lambda read: before.check_data(read, folder, other_data))
                history = before.with_data(data).with_length(prepared, folder)
            if done and history.extended == before.extended:
                console.print(completed, soft_wrap=True, highlight=False)
                return DONE
            if not begun:
                book.attach(folder)
            if changes := changed_versions(read_json(folder / ENVIRONMENT)):
                log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changes))
            if anew:
                (folder / STOP).unlink(missing_ok=True)
            go_on = newest, states, bool(overrides)
            return Session(prepared, dataset, data, folder, console, history, *go_on).carry_out()
    except OSError as error:
        raise Refused(error) from None


@dataclass
class Session:
    """One job in one folder. Whatever happens, summary.json says what has become of it."""

    prepared: PreparedJob
    dataset: Dataset
    data: Data
    folder: Path
    console: Console
    history: History
    newest: Sequence[State] = ()  # the checkpoint to go on from, if there is one
    older: Iterable[State] = ()  # to go on from if it does not fit, newest first
    rewrites: bool = False  # whether its config is another than the one in the folder
    trainer: Trainer | None = field(default=None, init=False)
    logbook: Logbook | None = field(default=None, init=False)
    step: int = field(default=0, init=False)

    def carry_out(self) -> int:
        """Trains, measures and exports. Returns the exit status."""
        status, error = "failed", None
        self.known = read_summary(self.folder).get("metrics", {})  # meanings of numbers of the attempt before
        with Interrupt() as interrupt:
            try:
                status = self.train(interrupt)
            except KeyboardInterrupt:  # the second one, which does not wait for a checkpoint
                status, interrupt.signal = "interrupted", signal.SIGINT
            except (Diverged, checkpoint.Unreadable) as reason:
                error = str(reason)
                log.error("%s", reason)
            except OSError as reason:
                kept = self.trainer and self.trainer.last_good
                error = f"{reason}; the newest checkpoint is {kept}" if kept else str(reason)
                log.error("%s; when that is mended: ssl-runner resume %s", error, self.folder)
            except Refused:
                raise
            except Exception as reason:  # a bug: its traceback is in run.log, and the summary says so
                error = f"{type(reason).__name__}: {reason}"
                log.exception("the run failed: %s", error)
            summary = self.close(status, error)
        print_end(summary, self.folder, self.console)
        interrupted = 128 + int(interrupt.signal or signal.SIGINT)
        return {"completed": DONE, "failed": FAILED, "stopped": STOPPED}.get(status, interrupted)

    def train(self, interrupt: Interrupt) -> str:
        """The run itself, and how it ended: completed, stopped or interrupted. Raises Refused, Diverged, OSError."""
        folder, job, content, data = self.folder, self.prepared.job, self.prepared.content, self.data
        paths, rows = self.prepared.composed.start, self.history.data["rows"]
        initial = None if self.newest else initial_weights(content, paths)
        run = assemble(job, self.dataset, data, folder, self.console, begun_with=rows, initial=initial)
        self.trainer = run
        if not (folder / ENVIRONMENT).exists():
            describe(folder, device=str(run.learner.device), fingerprint=data.fingerprint, start=paths)
        start = self.step = run.restore(chain(self.newest, self.older))
        check_config(folder, run.restored.get("config", content), content, self.history)
        known = run.restored.get("input")
        given = known if isinstance(known, dict) else input_of(job.model, self.dataset.samples, data, initial)
        record = {"config": stamped(content), "versions": versions(), "input": given, **self.history.record}
        run.provenance = {**run.provenance, **record}
        if self.rewrites:
            self.record("running")  # first: a completed run of another length is not completed
            files.write_config(folder, self.prepared.overrides, content)
        print_beginning(run, job, data, start)
        book = self.logbook = Logbook(folder, start if run.last_good else None)
        book.begin(hparams(content, self.prepared.overrides))
        book.text("config", f"```yaml\n{files.dump(content)}\n```")
        self.record("running")
        with run.progress:
            self.step = run.fit(start, book, interrupt)
        write(folder / WEIGHTS, serialise_weights(run.measurements.encoder.state_dict()))
        write(folder / ENCODER, files.dump(stamped({**content["model"], **given})))
        if self.step == run.length.steps:
            return "completed"
        return "stopped" if run.stopped else "interrupted"

    def record(self, status: str, error: str | None = None) -> dict[str, Any]:
        """Writes summary.json. Raises OSError."""
        seconds = self.logbook.seconds if self.logbook else 0.0
        more = self.history.changes, self.prepared.content.get("init") is not None
        return write_summary(self.folder, status, self.trainer, self.step, seconds, self.known, error, *more)

    def close(self, status: str, error: str | None) -> dict[str, Any]:
        """The last summary, and every file closed, whatever the disk says to it."""
        if self.trainer is not None and status != "completed":
            self.step = max(self.step, self.trainer.checked)
        summary: dict[str, Any] = {"status": "failed", "step": self.step, "steps": 0}
        try:
            summary = self.record(status, error)
        except OSError as reason:
            log.error("the summary could not be written: %s", reason)
        with suppress(Exception):  # TensorBoard's writer passes on whatever its thread died of
            if self.logbook is not None:
                self.logbook.close(status)
        if self.trainer is not None:
            self.trainer.learner.loader.close()
        return summary
