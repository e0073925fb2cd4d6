"""Session of a run: begun in a new folder, or resumed to bit-identical weights, by one process or by several."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.grammar import read_overrides
from ssl_runner.config.trust import read_project
from ssl_runner.contract import Data
from ssl_runner.engine.console import journal
from ssl_runner.errors import DONE, Refused
from ssl_runner.run import group
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.attempt import Attempt
from ssl_runner.run.group import Plan
from ssl_runner.run.history import History, check_overrides, describe_data, read_history, record_names
from ssl_runner.run.launch import launch
from ssl_runner.run.preflight import PreparedJob
from ssl_runner.run.prepare import recorded_job
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.environment import changed_code, changed_versions
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, ENVIRONMENT, OVERRIDES, STOP
from ssl_runner.run_folder.lock import check_free, claim, claim_new, locked
from ssl_runner.run_folder.summary import read_summary

log = logging.getLogger("ssl_runner")


def begin_new(
    prepared: PreparedJob,
    console: Console,
    to: Path | None = None,
    before: Callable[[Data], None] = lambda data: None,
) -> tuple[int, Path]:
    """Runs a job in `to`, the folder that it names, or a new one in outputs. Returns the exit status and the folder.

    `before`: is called with the data, before the folder is made. Raises Refused if the data cannot be had, or if the
    folder is taken, or cannot be made or written.
    """
    named = to if to is not None or prepared.composed.folder is None else Path(prepared.composed.folder)
    folders: list[Path] = []
    if named is not None:
        check_free(named)  # now, and not after the data is read

    def claim_folder(data: Data) -> Path:
        before(data)
        folders.append(claim_new(Path("outputs") / prepared.name) if named is None else claim(named))
        return folders[0]

    return carry_out(partial(begin_attempt, prepared, claim_folder, console)), folders[0]


def resume(
    folder: Path, console: Console, *, overrides: Sequence[str] = (), anew: bool = False, other_data: bool = False
) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start if there is none.

    `overrides`: harmless settings and the length, which its config then records. `anew`: removes a stop file of the
    attempt before; a sweep, which stops jobs, does that itself. `other_data`: the data may have changed. Raises Refused
    if the folder holds no run, or a running one, or one that does not fit this version, its config or its data.
    """
    return carry_out(partial(resume_attempt, folder, console, overrides, anew, other_data))


def carry_out(open_attempt: Callable[[ExitStack], Attempt | None]) -> int:
    """Carries out an attempt: in this process, in the group that it is part of, or in processes that it launches.

    Returns the exit status.
    """
    with ExitStack() as held:  # the log and the lock of the run folder
        attempt = open_attempt(held)
        if attempt is None:
            return DONE
        prepared, console = attempt.prepared, attempt.console
        placement, start = prepared.job.device.build(), prepared.composed.start
        plan = Plan(
            str(attempt.folder.absolute()),
            prepared.content,
            prepared.overrides,
            None if start is None else str(start.absolute()),
            asdict(attempt.history),
            attempt.rewrites,
        )
        if group.announce(plan, placement) or placement.processes == 1:
            status = attempt.carry_out()
            group.leave()
            return status
        del attempt  # and the data with it, which each of the processes reads for itself
    return launch(plan, placement, console)


def begin_attempt(prepared: PreparedJob, claim: Callable[[Data], Path], console: Console, held: ExitStack) -> Attempt:
    """The first attempt, in a new folder, which `held` then holds."""
    book = held.enter_context(journal(console))
    dataset, data = load_data(prepared)
    try:
        folder = claim(data)
        held.enter_context(locked(folder))
        files.write_config(folder, prepared.overrides, prepared.content)
        book.attach(folder)
    except OSError as error:
        raise Refused(f"run folder: {error}") from None
    return Attempt(assemble, prepared, dataset, data, folder, console, History(describe_data(data)))


def resume_attempt(
    folder: Path, console: Console, overrides: Sequence[str], anew: bool, other_data: bool, held: ExitStack
) -> Attempt | None:
    """The next attempt in a folder, which `held` then holds; None if the run is completed."""
    done = read_summary(folder).get("status") == "completed"
    prepared = recorded_job(folder, overrides, begins=not (done or checkpoint.steps(folder / CHECKPOINTS)))
    if overrides:
        check_overrides(folder, prepared)
    completed = f"{folder} is completed already; to train longer, type ssl-runner resume {folder} length=NNNep"
    try:
        book, _ = held.enter_context(journal(console)), held.enter_context(locked(folder))
        done = read_summary(folder).get("status") == "completed"
        if done and typed_length(overrides) is None:
            if new := record_names(folder, prepared):
                console.print(f"written to {folder / CONFIG}: {', '.join(new)}", soft_wrap=True, highlight=False)
            console.print(completed, soft_wrap=True, highlight=False)
            return None
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
            history = before.with_data(data).with_length(prepared, typed_length(prepared.overrides), folder)
        if done and history.extended == before.extended:
            console.print(completed, soft_wrap=True, highlight=False)
            return None
        if not begun:
            book.attach(folder)
        changes = changed_versions(read_json(folder / ENVIRONMENT)) + changed_code(folder, read_project().code)
        if changes:
            log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changes))
        if anew:
            (folder / STOP).unlink(missing_ok=True)
    except OSError as error:
        raise Refused(error) from None
    return Attempt(assemble, prepared, dataset, data, folder, console, history, newest, states, bool(overrides))


def typed_length(words: Sequence[str]) -> str | None:
    """The length among overrides."""
    lengths = [each.value for each in read_overrides(words)[0] if each.key == "length"]
    return lengths[-1] if lengths else None
