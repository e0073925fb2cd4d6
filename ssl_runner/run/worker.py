"""Worker: one of the processes that carry out a run together; a plan tells it what a command line would."""

import logging
import os
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssl_runner.config.composed import Composed
from ssl_runner.config.file_paths import with_places
from ssl_runner.data.check import with_fingerprint
from ssl_runner.device import ranks
from ssl_runner.engine.console import Terminal, journal
from ssl_runner.errors import REFUSED, Refused, refuse
from ssl_runner.run import group
from ssl_runner.run.assemble import assemble
from ssl_runner.run.attempt import Attempt
from ssl_runner.run.history import History
from ssl_runner.run.preflight import PreparedJob, read_job
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.layout import CHECKPOINTS
from ssl_runner.run_folder.lock import locked

log = logging.getLogger("ssl_runner")


def work(plan: group.Plan, width: int | None = None) -> int:
    """Carries out a plan in this process, a rank of a group. Returns the exit status.

    The first rank writes the run folder and the console, whose `width` is given if it is no terminal. The others write
    warnings and errors to run.log.
    """
    folder, start = Path(plan.folder), None if plan.start is None else Path(plan.start)
    first = int(os.environ["RANK"]) == 0
    console = Terminal(quiet=not first, width=width)
    with ExitStack() as held:
        book = held.enter_context(journal(console, "" if first else f"process {os.environ['RANK']}: "))
        try:
            if first:
                held.enter_context(locked(folder))
            book.attach(folder)
            with book.failures():
                own = None if first else Path(held.enter_context(TemporaryDirectory()))
                attempt = open_attempt(plan, folder, start, console, own)
            status = attempt.carry_out()
        except Refused as reason:
            return refuse(reason.lines) if first and not plan.token else REFUSED
        group.leave()
    return status


def open_attempt(plan: group.Plan, folder: Path, start: Path | None, console: Terminal, own: Path | None) -> Attempt:
    """The attempt that is this process's part of the plan. `own`: where its evaluators write, if not in the folder."""
    content: dict[str, Any] = dict(plan.content)
    job, problems = read_job(with_places(content, start), build=False)
    if job is None:
        raise Refused(*problems)
    group.enter(job.device.build())
    if plan.token:
        group.require_shared(folder / plan.token)
    if (again := int(os.environ.get(group.RESTARTS, 0))) and ranks.is_first():
        log.warning("a process has died: all of them begin again, from the newest checkpoint (restart %d)", again)
    dataset = job.dataset.build()
    data = with_fingerprint(dataset.load())
    states = checkpoint.newest_first(folder / CHECKPOINTS) if ranks.is_first() else iter(())
    prepared = PreparedJob(job, content, [*plan.overrides], Composed(content, start=start))
    newest, history = list(islice(states, 1)), History(**plan.history)
    put_together = partial(assemble, evaluation=own)
    return Attempt(put_together, prepared, dataset, data, folder, console, history, newest, states, plan.rewrites)
