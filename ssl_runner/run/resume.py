"""Resuming a run from its newest readable checkpoint, to bit-identical weights."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.config.recorded import read_recorded
from ssl_runner.config.trust import foreign_code
from ssl_runner.engine.log import Journal, journal
from ssl_runner.errors import DONE, Refused
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.job import Job
from ssl_runner.run.session import Session, changed
from ssl_runner.run.validate import Ready, prepared
from ssl_runner.run_folder.atomic import read_json, write
from ssl_runner.run_folder.environment import changed_versions
from ssl_runner.run_folder.layout import CONFIG, ENVIRONMENT, OVERRIDES, STOP
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.summary import read_summary

log = logging.getLogger("ssl_runner")


def resume(folder: Path, console: Console, *, overrides: Sequence[str] = (), anew: bool = False) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start if there is none.

    `overrides`: harmless settings, which its config then records. `anew`: a request to stop it, from the attempt
    before, is forgotten; a sweep, which stops jobs, does that itself.
    Raises Refused if the folder holds no run, or a running one, or one that this version or its config does not fit.
    """
    ready = recorded_job(folder, overrides)
    if overrides:
        check_harmless(folder, ready)
    try:
        with journal(console) as book, locked(folder):
            if read_summary(folder).get("status") == "completed":
                console.print(f"{folder} is completed already", soft_wrap=True)
                return DONE
            if overrides:
                write(folder / CONFIG, files.dump(stamped(ready.content)))
                write(folder / OVERRIDES, files.dump(ready.overrides))
            if anew:
                (folder / STOP).unlink(missing_ok=True)
            return go_on(ready.job, ready.content, ready.overrides, folder, console, book)
    except OSError as error:
        raise Refused(error) from None


def recorded_job(place: Path, overrides: Sequence[str] = (), config_dir: Path | None = None) -> Ready:
    """The job of a run folder or a config file, with overrides on top. Raises Refused with all that is wrong."""
    composed, words = read_recorded(place, overrides, config_dir)
    ready, problems = prepared(composed, words)
    if ready is None:
        raise Refused(*problems)
    return ready


def check_harmless(folder: Path, ready: Ready) -> None:
    """Raises Refused for a change that could change the result."""
    if ready.composed.folder is not None:
        raise Refused(f"hydra.run.dir: a run goes on in its own folder, {folder}; leave it out")
    if keys := changed(files.read(folder / CONFIG), ready.content):
        raise Refused(
            f"{', '.join(keys)}: cannot change in a run that goes on; begin a new one with it: "
            f"ssl-runner rerun {folder} KEY=VALUE"
        )


def go_on(
    job: Job, content: dict[str, Any], overrides: Sequence[str], folder: Path, console: Console, book: Journal
) -> int:
    begun = (folder / OVERRIDES).exists()  # else a config may have come here by itself
    if begun:
        book.attach(folder)
    for line in foreign_code(content):
        log.info(line)
    try:
        dataset, data = load_data(job)
    except Exception as reason:  # whoever called says it on the console
        if begun:
            trace = None if isinstance(reason, Refused) else (type(reason), reason, reason.__traceback__)
            record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "did not begin: %s", (reason,), trace)
            book.handlers[-1].handle(record)
        raise
    if not begun:
        book.attach(folder)
    if changed := changed_versions(read_json(folder / ENVIRONMENT), data.fingerprint):
        log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changed))
    return Session(job, content, overrides, dataset, data, folder, console, assemble).carry_out()
