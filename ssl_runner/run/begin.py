"""The beginning of a run: its data is read, its folder made, its config written, its job carried out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.contract import Data, Dataset
from ssl_runner.duration import Length
from ssl_runner.engine.log import journal
from ssl_runner.errors import Refused
from ssl_runner.run.assemble import assemble, evaluators, fresh_encoders
from ssl_runner.run.job import Job
from ssl_runner.run.session import Session
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import CONFIG, OVERRIDES
from ssl_runner.run_folder.lock import locked


def begin(
    job: Job, content: dict[str, Any], overrides: Sequence[str], claim: Callable[[], Path], console: Console
) -> int:
    """Runs a job in the new folder that `claim` makes, once its data is there. Returns the exit status.

    Raises Refused where the data cannot be had or the folder cannot be made or written.
    """
    with journal(console) as book:
        dataset, data = load_data(job)
        folder = claim()
        try:
            with locked(folder):
                write(folder / CONFIG, files.dump(stamped(content)))
                write(folder / OVERRIDES, files.dump(list(overrides)))
                book.into(folder)
                session = Session(job, content, overrides, dataset, data, folder, console, assemble)
                return session.carry_out()
        except OSError as error:
            raise Refused(f"run folder: {error}") from None


def load_data(job: Job) -> tuple[Dataset, Data]:
    """Reads the data and tries batches and evaluators on it. Raises Refused."""
    dataset = job.dataset.build()
    try:
        data = dataset.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"dataset: {error}") from None
    try:
        Length.of(job.length, len(data.train), job.batch_size)  # fewer rows than counted on if files are unreadable
    except ValueError as error:
        raise Refused(error) from None
    samples = dataset.samples
    try:
        evaluators(job.evaluator, data, samples, fresh_encoders(job, samples, data), lambda *_: Path())
    except ValueError as error:
        raise Refused(f"evaluator: {error}") from None
    return dataset, data
