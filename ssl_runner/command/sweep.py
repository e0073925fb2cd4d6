"""`ssl-runner -m KEY=A,B ...`: a sweep. Each job runs in a process and a folder of its own below the sweep's."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.command.usage import DEFAULT, composer_of, missing_folder, options, show
from ssl_runner.config.show import config_text
from ssl_runner.config.trust import PLACE, read_project
from ssl_runner.engine.console import Terminal
from ssl_runner.engine.levels import keep_levels
from ssl_runner.errors import Refused, refuse

if TYPE_CHECKING:
    from ssl_runner.sweep.settings import Words


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = options(words)
    if (status := show(arguments)) is not None:
        return status
    from ssl_runner.sweep.read import read
    from ssl_runner.sweep.settings import merge_words, split_words

    typed, command, recorded = split_words(arguments.overrides), merge_words([], words), False
    if typed.resume is not None:
        try:
            typed, command, recorded = resumed_words(typed, arguments)
        except Refused as reason:
            return refuse(reason.lines)
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    composer, console = composer_of(arguments, typed.jobs), Terminal(stderr=bool(arguments.cfg))
    request = read(typed, composer, prepare, console, recorded, build=not arguments.cfg)
    if request.problems:
        return refuse(request.problems)
    if arguments.cfg:
        texts = (
            config_text(each.composed, arguments.cfg, arguments.package, arguments.resolve) for each in request.jobs
        )
        print("---\n".join(texts), end="")
        return 0
    from ssl_runner.sweep.run import start  # numpy is imported here, after all that needs none

    keep_levels(request.levels)
    try:
        return start(request, command, console, run_job)
    except ValueError as error:
        return refuse(str(error).splitlines())


def resumed_words(typed: "Words", arguments: argparse.Namespace) -> tuple["Words", list[str], bool]:
    """The words of a sweep that goes on: those that it was begun with, changed by what is typed now.

    Also returns them as a command, and whether its jobs are those of its folder. Goes to the folder in which it was
    begun, and puts its configs into the arguments. Raises Refused.
    """
    from ssl_runner.sweep.ledger import Ledger
    from ssl_runner.sweep.settings import RESUME, check_recorded, merge_words, split_words

    try:
        ledger = Ledger.open(Path(typed.resume or ""))
    except ValueError as error:
        raise Refused(f"sweep.resume: {error}") from None
    folder, recorded = return_to(Path(typed.resume or ""), ledger.cwd, arguments), False
    command = merge_words(ledger.command, [*typed.own, *typed.launcher, *typed.sweeper])
    if problems := check_recorded(command, arguments.overrides):
        raise Refused(*problems)
    before = options(command)
    kept = split_words(before.overrides)
    if not typed.jobs:  # they are those that it was begun with, and if there are some already, as they are
        recorded = bool(ledger.jobs) and not arguments.cfg
        arguments.config_dir = arguments.config_dir or before.config_dir
        arguments.config_name = before.config_name if arguments.config_name == DEFAULT else arguments.config_name
    own, folders = [*kept.own, f"{RESUME}={folder}"], [*kept.folder, *typed.folder]
    return replace(kept, jobs=typed.jobs or kept.jobs, own=own, folder=folders), command, recorded


def prepare(*arguments: Any) -> Any:
    """run.prepare.prepare_job, for which torch is imported."""
    from ssl_runner.run.prepare import prepare_job

    return prepare_job(*arguments)


def run_job(folder: str, threads: int | None = None) -> int:
    """Carries out a job of a sweep in its process, in which torch is imported."""
    from ssl_runner.run.session import resume
    from ssl_runner.sweep import worker

    return worker.run_job(resume, folder, threads)


def return_to(folder: Path, cwd: str, arguments: argparse.Namespace) -> Path:
    """Goes to where a sweep was begun, from where its jobs' relative paths start. Returns its folder as seen there."""
    if Path(cwd).is_dir() and not Path.cwd().samefile(cwd):
        folder = folder.resolve()
        os.environ[PLACE] = str(read_project().folder)  # the folder that a sweep names is not asked whom to trust
        arguments.config_dir = arguments.config_dir and arguments.config_dir.resolve()
        sys.path[:] = map(os.path.abspath, sys.path)  # nor is anything imported from it
        os.chdir(cwd)
    return folder
