"""Session: a job carried out in its run folder. Whatever happens, summary.json says what has become of it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.config import files
from ssl_runner.config.migrate import migrated, stamped
from ssl_runner.encoder.load import input_of, serialised
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook
from ssl_runner.errors import DONE, FAILED, STOPPED, Diverged, Refused
from ssl_runner.run.report import hparams, print_beginning, print_end
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.atomic import write, write_json
from ssl_runner.run_folder.environment import describe, versions
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, ENCODER, ENVIRONMENT, HARMLESS, SUMMARY, WEIGHTS
from ssl_runner.run_folder.summary import read_summary, summarise

if TYPE_CHECKING:
    from rich.console import Console

    from ssl_runner.contract import Data, Dataset
    from ssl_runner.engine.trainer import Trainer
    from ssl_runner.run.job import Job

log = logging.getLogger("ssl_runner")


@dataclass
class Session:
    """One job in one folder. `assemble` puts its trainer together from what the other fields say."""

    job: Job
    content: dict[str, Any]
    overrides: Sequence[str]
    dataset: Dataset
    data: Data
    folder: Path
    console: Console
    assemble: Any  # assemble.assemble
    trainer: Trainer | None = field(default=None, init=False)
    logbook: Logbook | None = field(default=None, init=False)
    step: int = field(default=0, init=False)
    known: dict[str, Any] = field(default_factory=dict, init=False)  # meanings of numbers of the attempt before

    def carry_out(self) -> int:
        """Trains, measures and exports. Returns the exit status."""
        status, error = "failed", None
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
        return {"completed": DONE, "failed": FAILED, "stopped": STOPPED}.get(
            status, 128 + int(interrupt.signal or signal.SIGINT)
        )

    def train(self, interrupt: Interrupt) -> str:
        """The run itself, and how it ended: completed, stopped or interrupted."""
        self.known = read_summary(self.folder).get("metrics", {})
        given = input_of(self.job.model, self.dataset.samples, self.data)
        provenance = {"config": stamped(self.content), "versions": versions(), "input": given}
        run = self.trainer = self.assemble(self.job, self.dataset, self.data, self.folder, self.console, provenance)
        if not (self.folder / ENVIRONMENT).exists():
            describe(self.folder, device=str(run.learner.device), fingerprint=self.data.fingerprint)
        start = self.step = run.restore()
        self.check_same(run.restored.get("config", self.content))
        print_beginning(run, self.job, self.data, start)
        self.logbook = Logbook(self.folder, start)
        self.logbook.begin(hparams(self.content, self.overrides))
        self.logbook.text("config", f"```yaml\n{files.dump(self.content)}\n```")
        self.record("running")
        with run.progress:
            self.step = run.fit(start, self.logbook, interrupt)
        self.export(run)
        if self.step == run.length.steps:
            return "completed"
        return "stopped" if run.stopped else "interrupted"

    def check_same(self, before: dict[str, Any]) -> None:
        """Raises Refused if a setting that shapes the result is not what the checkpoint was made with."""
        try:
            before = migrated(before, str(self.folder / CHECKPOINTS))
        except ValueError as error:
            raise Refused(error) from None
        if keys := changed(before, self.content):
            raise Refused(
                f"{self.folder / CONFIG}: {', '.join(keys)} changed since the checkpoint was written; put it back, or "
                f"begin a new run with it: ssl-runner rerun {self.folder} KEY=VALUE"
            )

    def record(self, status: str, error: str | None = None) -> dict[str, Any]:
        """Writes summary.json. Raises OSError."""
        run, book = self.trainer, self.logbook
        health = run.measurements.health if run else None
        summary = summarise(
            status,
            self.folder,
            {**self.known, **(run.measurements.meanings if run else {})},
            run.measurements.headlines if run else [],
            run.measurements.protocols if run else {},
            seconds=book.seconds if book else 0.0,
            step=self.step,
            steps=run.length.steps if run else 0,
            samples_per_second=run.progress.samples_per_second if run else 0.0,
            peak_memory_mb=run.learner.device.peak_memory_mb() if run else 0.0,
            error=error or (run.stopped if run else None) or None,
            health=health.summary() if health else None,
        )
        write_json(self.folder / SUMMARY, summary)
        return summary

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

    def export(self, run: Trainer) -> None:
        """The encoder, as weights beside what builds it."""
        write(self.folder / WEIGHTS, serialised(run.measurements.encoder))
        write(self.folder / ENCODER, files.dump(stamped({**self.content["model"], **run.provenance["input"]})))


def changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys, as paths, whose values differ and can change a result."""
    keys = []
    for key in dict.fromkeys((*before, *now)):
        path, a, b = f"{prefix}{key}", before.get(key), now.get(key)
        if path in HARMLESS or a == b:
            continue
        nested = isinstance(a, Mapping) and isinstance(b, Mapping)
        keys += changed(a, b, f"{path}.") if nested else [path]  # type: ignore[arg-type]
    return keys
