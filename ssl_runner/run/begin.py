"""Start of a new run: read its data, make its folder, write its config, carry it out."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.config.trust import foreign_code
from ssl_runner.contract import Data
from ssl_runner.engine.log import journal
from ssl_runner.errors import Refused
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.job import Job
from ssl_runner.run.session import Session
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import CONFIG, OVERRIDES
from ssl_runner.run_folder.lock import locked

log = logging.getLogger("ssl_runner")


def begin(
    job: Job, content: dict[str, Any], overrides: Sequence[str], claim: Callable[[Data], Path], console: Console
) -> int:
    """Runs a job in the new folder that `claim` makes, given the data that was read. Returns the exit status.

    Raises Refused if the data cannot be had or the folder cannot be made or written.
    """
    with journal(console) as book:
        for line in foreign_code(content):
            log.info(line)
        dataset, data = load_data(job)
        folder = claim(data)
        try:
            with locked(folder):
                write(folder / CONFIG, files.dump(stamped(content)))
                write(folder / OVERRIDES, files.dump(list(overrides)))
                book.attach(folder)
                session = Session(job, content, overrides, dataset, data, folder, console, assemble)
                return session.carry_out()
        except OSError as error:
            raise Refused(f"run folder: {error}") from None
