"""A job carried out in a run folder, from its data to its summary."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner import config
from ssl_runner.contract import Data, Dataset
from ssl_runner.encoder import RECIPE, WEIGHTS, serialised
from ssl_runner.engine import checkpoint
from ssl_runner.engine import folder as folders
from ssl_runner.engine.checkpoint import read_json, write, write_json
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.log import Journal, journal
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.summary import summarise
from ssl_runner.engine.trainer import STOP, Diverged, Trainer
from ssl_runner.job import Job, durations, encoders, evaluators, trainer
from ssl_runner.job import read as read_job
from ssl_runner.migration import migrated, stamped
from ssl_runner.report import conclude, hparams, introduce

log = logging.getLogger("ssl_runner")

# Exit statuses; 2 is a refusal, and that of an interrupted run is 128 + the signal.
DONE, FAILED, STOPPED = 0, 1, 3  # stopped: by a collapse where on_collapse is stop, or by a file `stop`
# What may change without changing a run's result.
MAY_CHANGE = ("log_every", "save_every", "show_every", "keep", "on_collapse", "device", "choices")


class Refused(Exception):
    """The job cannot begin or go on; nothing was written. One line for each reason."""


def begin(
    job: Job, content: dict[str, Any], overrides: Sequence[str], claim: Callable[[], Path], console: Console
) -> int:
    """Runs a job in the new folder that `claim` makes, once its data is there. Returns the exit status.

    Raises Refused where the data cannot be had or the folder cannot be made.
    """
    with journal(console) as book:
        dataset, data = load(job)
        try:
            folder = claim()
        except (folders.Occupied, OSError) as error:
            raise Refused(f"run folder: {error}") from None
        with locked(folder):
            try:
                write(folder / "config.yaml", config.dump(stamped(content)).encode())
                write(folder / "overrides.yaml", config.dump(list(overrides)).encode())
                book.into(folder)
            except OSError as error:
                raise Refused(f"run folder: {error}") from None
            return Run(job, content, overrides, dataset, data, folder, console).carry_out()


def resume(folder: Path, console: Console, *, anew: bool = False) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start where there is none.

    `anew`: a wish to stop it, from the attempt before, is forgotten; a sweep, which stops jobs, sees to that itself.
    Raises Refused where the folder holds no run, or a running one, or one that this version or its config does not fit.
    """
    try:
        if not (folder / "config.yaml").is_file():
            raise Refused(f"{folder} holds no run: there is no config.yaml in it")
        content = config.read(folder / "config.yaml")
        overrides = config.read(folder / "overrides.yaml", list) if (folder / "overrides.yaml").exists() else []
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None
    job, problems = read_job(content)
    if job is None or problems:
        raise Refused("\n".join(f"{folder / 'config.yaml'}: {line}" for line in problems))
    with journal(console) as book, locked(folder):
        if read_json(folder / "summary.json").get("status") == "completed":
            console.print(f"{folder} is completed already", soft_wrap=True)
            return DONE
        if anew:
            (folder / STOP).unlink(missing_ok=True)
        begun = (folder / "overrides.yaml").exists()  # else a config may have come here by itself
        if begun:
            told(book, folder)
        try:
            dataset, data = load(job)
        except Exception as reason:  # whoever called says it on the console
            if begun:
                trace = None if isinstance(reason, Refused) else (type(reason), reason, reason.__traceback__)
                record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "did not begin: %s", (reason,), trace)
                book.handlers[-1].handle(record)
            raise
        if not begun:
            told(book, folder)
        changed = differences(read_json(folder / "environment.json"), data)
        if changed:
            log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changed))
        return Run(job, content, [str(each) for each in overrides], dataset, data, folder, console).carry_out()


def told(book: Journal, folder: Path) -> None:
    """From here on run.log has what is said. Raises Refused where it cannot be written."""
    try:
        book.into(folder)
    except OSError as error:
        raise Refused(str(error)) from None


def load(job: Job) -> tuple[Dataset, Data]:
    """Reads the data and tries batches and evaluators on it. Raises Refused."""
    dataset = job.dataset.build()
    try:
        data = dataset.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"dataset: {error}") from None
    rows = len(data.train)  # fewer than the dataset counted on where files turned out to be broken
    if job.batch_size > rows:
        raise Refused(f"batch_size: given {job.batch_size}, and the dataset has {rows} training rows")
    if problems := durations(job, rows // job.batch_size):
        raise Refused("\n".join(problems))
    try:
        evaluators(job.evaluator, data, encoders(job, dataset.shape, data), lambda *_: Path())
    except ValueError as error:
        raise Refused(f"evaluator: {error}") from None
    return dataset, data


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises Refused where another process does."""
    try:
        lock = folders.locked(folder)
        lock.__enter__()
    except (folders.Occupied, OSError) as error:
        raise Refused(str(error)) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@dataclass
class Run:
    """A job in its folder. Whatever happens, summary.json says what has become of it."""

    job: Job
    content: dict[str, Any]
    overrides: Sequence[str]
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
        conclude(summary, self.folder, self.console)
        return {"completed": DONE, "failed": FAILED, "stopped": STOPPED}.get(
            status, 128 + int(interrupt.signal or signal.SIGINT)
        )

    def train(self, interrupt: Interrupt) -> str:
        """The run itself, and how it ended: completed, stopped or interrupted."""
        provenance = {
            "config": stamped(self.content),
            "versions": folders.versions(),
            "shape": list(self.dataset.shape),
        }
        run = self.trainer = trainer(self.job, self.dataset, self.data, self.folder, self.console, provenance)
        if not (self.folder / "environment.json").exists():
            folders.describe(self.folder, device=str(run.learner.device), fingerprint=self.data.fingerprint)
        start = self.step = run.restore()
        self.check_same(run.restored.get("config", self.content))
        introduce(run, self.job, self.data, start)
        self.logbook = Logbook(self.folder, start)
        self.logbook.begin(hparams(self.content, self.overrides))
        self.logbook.text("config", f"```yaml\n{config.dump(self.content)}\n```")
        self.record("running")
        with run.progress:
            self.step = run.fit(start, self.logbook, interrupt)
        self.export(run)
        if self.step == run.schedule.steps:
            return "completed"
        return "stopped" if run.stopped else "interrupted"

    def check_same(self, before: dict[str, Any]) -> None:
        """Raises Refused where a setting that shapes the result is not what the checkpoint was made with."""
        try:
            before = migrated(before, str(self.folder / "checkpoints"))
        except ValueError as error:
            raise Refused(str(error)) from None
        keys = [key for key in {**before, **self.content} if key not in MAY_CHANGE]
        changed = [key for key in keys if before.get(key) != self.content.get(key)]
        if changed:
            raise Refused(
                f"{self.folder / 'config.yaml'}: {', '.join(changed)} changed since the checkpoint was written; put it "
                "back, or begin a new run with it: ssl-runner --config-dir FOLDER --config-name config"
            )

    def record(self, status: str, error: str | None = None) -> dict[str, Any]:
        """Writes summary.json. Raises OSError."""
        run, book = self.trainer, self.logbook
        summary = summarise(
            status,
            book.rows if book else [],
            list(self.job.evaluator),
            seconds=book.seconds if book else 0.0,
            step=self.step,
            steps=run.schedule.steps if run else 0,
            images_per_second=run.progress.images_per_second if run else 0.0,
            peak_memory_mb=run.learner.device.peak_memory_mb() if run else 0.0,
            error=error or (run.stopped if run else None) or None,
            health=run.health.summary() if run and run.health else None,
        )
        write_json(self.folder / "summary.json", summary)
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
        write(self.folder / WEIGHTS, serialised(run.encoder))
        made = {"shape": list(self.dataset.shape), "mean": list(self.data.mean), "std": list(self.data.std)}
        write(self.folder / RECIPE, config.dump(stamped({**self.content["model"], **made})).encode())


def differences(before: dict[str, Any], data: Data) -> list[str]:
    """What a resumed run finds changed since it began."""
    versions = before.get("versions")
    then = {**versions, "dataset": before.get("dataset")} if isinstance(versions, dict) else {}
    now = {**folders.versions(), "dataset": data.fingerprint}
    return [f"{name} was {then[name]}, is {value}" for name, value in now.items() if then.get(name, value) != value]
