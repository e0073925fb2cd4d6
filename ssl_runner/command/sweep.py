"""`ssl-runner -m KEY=A,B ...`: a sweep. Each job runs in a process and a folder of its own below the sweep's."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_runner.command.usage import DEFAULT, composer_of, missing_folder, options, show
from ssl_runner.config.show import config_text
from ssl_runner.config.trust import PLACE, read_project
from ssl_runner.engine.console import Terminal
from ssl_runner.engine.levels import keep_levels
from ssl_runner.errors import refuse


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = options(words)
    if (status := show(arguments)) is not None:
        return status
    from ssl_runner.sweep.read import read
    from ssl_runner.sweep.settings import RESUME, check_recorded, merge_words, split_words

    now, command, recorded = split_words(arguments.overrides), merge_words([], words), False
    if now.resume is not None:
        from ssl_runner.sweep.ledger import Ledger

        try:
            ledger = Ledger.open(Path(now.resume))
        except ValueError as error:
            return refuse([f"sweep.resume: {error}"])
        folder = return_to(Path(now.resume), ledger.cwd, arguments)
        command = merge_words(ledger.command, [*now.own, *now.launcher, *now.sweeper])
        if problems := check_recorded(command, arguments.overrides):
            return refuse(problems)
        before = options(command)
        kept = split_words(before.overrides)
        if not now.jobs:  # they are those that it was begun with, and if there are some already, as they are
            recorded = bool(ledger.jobs) and not arguments.cfg
            arguments.config_dir = arguments.config_dir or before.config_dir
            arguments.config_name = before.config_name if arguments.config_name == DEFAULT else arguments.config_name
        own = [*kept.own, f"{RESUME}={folder}"]
        now = replace(kept, jobs=now.jobs or kept.jobs, own=own, folder=[*kept.folder, *now.folder])
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    composer, console = composer_of(arguments, now.jobs), Terminal(stderr=bool(arguments.cfg))
    request = read(now, composer, prepare, console, recorded, build=not arguments.cfg)
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
