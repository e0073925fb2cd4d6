"""Session of a run: begun in a new folder or resumed to bit-identical weights, then trained, measured and exported."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import migrated, stamped
from ssl_runner.config.recorded import read_recorded
from ssl_runner.contract import Data, Dataset
from ssl_runner.encoder.load import input_of
from ssl_runner.engine.console import journal
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer
from ssl_runner.errors import DONE, FAILED, STOPPED, Diverged, Refused
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.preflight import PreparedJob, prepare_job
from ssl_runner.run.report import hparams, print_beginning, print_end, write_summary
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.atomic import read_json, write
from ssl_runner.run_folder.environment import changed_versions, describe, versions
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, ENCODER, ENVIRONMENT, HARMLESS, OVERRIDES, STOP, WEIGHTS
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.run_folder.weights import serialise_weights

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
                write(folder / OVERRIDES, files.dump(prepared.overrides))
                write(folder / CONFIG, files.dump(stamped(prepared.content)))  # last: with it the folder is a run's
                book.attach(folder)
                return Session(prepared, dataset, data, folder, console).carry_out()
        except OSError as error:
            raise Refused(f"run folder: {error}") from None


def resume(folder: Path, console: Console, *, overrides: Sequence[str] = (), anew: bool = False) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start if there is none.

    `overrides`: harmless settings, which its config then records. `anew`: a request to stop it, from the attempt
    before, is forgotten; a sweep, which stops jobs, does that itself.
    Raises Refused if the folder holds no run, or a running one, or one that this version or its config does not fit.
    """
    prepared = recorded_job(folder, overrides)
    if overrides and prepared.composed.folder is not None:
        raise Refused(f"hydra.run.dir: a run goes on in its own folder, {folder}; leave it out")
    if overrides and (keys := changed(files.read(folder / CONFIG), prepared.content)):
        remedy = f"begin a new one with it: ssl-runner rerun {folder} KEY=VALUE"
        raise Refused(f"{', '.join(keys)}: cannot change in a run that goes on; {remedy}")
    try:
        with journal(console) as book, locked(folder):
            if read_summary(folder).get("status") == "completed":
                console.print(f"{folder} is completed already", soft_wrap=True)
                return DONE
            if overrides:
                write(folder / OVERRIDES, files.dump(prepared.overrides))
                write(folder / CONFIG, files.dump(stamped(prepared.content)))
            if anew:
                (folder / STOP).unlink(missing_ok=True)
            begun = (folder / OVERRIDES).exists()  # else a config may have come here by itself
            if begun:
                book.attach(folder)
            try:
                dataset, data = load_data(prepared)
            except Exception as reason:  # whoever called says it on the console
                trace = None if isinstance(reason, Refused) else (type(reason), reason, reason.__traceback__)
                book.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "did not begin: %s", (reason,), trace))
                raise
            if not begun:
                book.attach(folder)
            if changes := changed_versions(read_json(folder / ENVIRONMENT), data.fingerprint):
                log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changes))
            return Session(prepared, dataset, data, folder, console).carry_out()
    except OSError as error:
        raise Refused(error) from None


def recorded_job(place: Path, overrides: Sequence[str] = (), config_dir: Path | None = None) -> PreparedJob:
    """The job of a run folder or a config file, with overrides on top. Raises Refused with all that is wrong."""
    prepared, problems = prepare_job(*read_recorded(place, overrides, config_dir))
    if prepared is None:
        raise Refused(*problems)
    return prepared


def changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys, as paths, whose values differ and can change a result."""
    keys = []
    for key in dict.fromkeys((*before, *now)):
        path, a, b = f"{prefix}{key}", before.get(key), now.get(key)
        if path not in HARMLESS and a != b:
            keys += changed(a, b, f"{path}.") if isinstance(a, Mapping) and isinstance(b, Mapping) else [path]
    return keys


@dataclass
class Session:
    """One job in one folder. Whatever happens, summary.json says what has become of it."""

    prepared: PreparedJob
    dataset: Dataset
    data: Data
    folder: Path
    console: Console
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
        folder, job, content = self.folder, self.prepared.job, self.prepared.content
        given = input_of(job.model, self.dataset.samples, self.data)
        provenance = {"config": stamped(content), "versions": versions(), "input": given}
        run = self.trainer = assemble(job, self.dataset, self.data, folder, self.console, provenance)
        if not (folder / ENVIRONMENT).exists():
            describe(folder, device=str(run.learner.device), fingerprint=self.data.fingerprint)
        start = self.step = run.restore()
        try:
            before = migrated(run.restored.get("config", content), str(folder / CHECKPOINTS))
        except ValueError as error:
            raise Refused(error) from None
        if keys := changed(before, content):
            remedy = f"put it back, or begin a new run with it: ssl-runner rerun {folder} KEY=VALUE"
            raise Refused(f"{folder / CONFIG}: {', '.join(keys)} changed since the checkpoint was written; {remedy}")
        print_beginning(run, job, self.data, start)
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
        return write_summary(self.folder, status, self.trainer, self.step, seconds, self.known, error)

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
