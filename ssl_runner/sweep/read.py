"""A sweep as it was typed after -m: its jobs, its own settings, its launcher and its sweeper, all checked at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import check_declared
from ssl_runner.errors import Refused
from ssl_runner.plugins import chosen
from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.launch import LauncherFailed
from ssl_runner.plugins.optimise import divided, examples
from ssl_runner.sweep import settings
from ssl_runner.sweep.naming import shared, slug
from ssl_runner.sweep.settings import FOLDER, Parted, Settings

if TYPE_CHECKING:
    from ssl_runner.run.validate import Ready

DIRECTION = "hydra.sweeper.direction"
MANY = 50  # jobs whose check takes a moment


@dataclass
class Typed:
    """A sweep that may begin where `problems` is empty."""

    settings: Settings | None
    launcher: Plugin | None
    sweeper: Plugin | None
    fixed: list[str] = field(default_factory=list)  # of a search: what all trials share
    searched: list[str] = field(default_factory=list)
    jobs: list["Ready"] = field(default_factory=list)  # of a search: those that were checked in the place of all
    as_they_are: bool = False  # the jobs are those of the ledger, each as its folder has it
    folder: str | None = None
    problems: list[str] = field(default_factory=list)


def read(words: Parted, composer: Composer, console: Console, as_they_are: bool = False, build: bool = True) -> Typed:
    """Everything that is wrong is in `problems`, a line each. Jobs are built, if at all, once nothing else is wrong."""
    keys, problems = settings.read(words.own)
    typed = Typed(keys, None, None, problems=problems, as_they_are=as_they_are)
    typed.launcher, wrong = chosen.read("launcher", words.launcher)
    typed.sweeper, more = chosen.read("sweeper", words.sweeper)
    problems += wrong + more
    jobs: list[list[str]] = []
    if typed.sweeper is not None:
        typed.as_they_are = False
        typed.fixed, typed.searched = divided(words.jobs)
        trials, wrong = examples(typed.searched)
        jobs = [[*typed.fixed, *trial] for trial in trials]
    elif not as_they_are:
        jobs, wrong = composer.expand(words.jobs)
    problems += wrong
    if len(jobs) >= MANY:
        console.print(f"checking {len(jobs)} jobs")
    found = [check_declared(composer.compose(job)) for job in jobs]
    for composed in found:
        problems += composed.problems
        if composed.folder:
            problems.append(f"hydra.run.dir: names the folder of a single run; type {FOLDER}=... with -m")
    if words.folder:
        typed.folder, wrong = place(words, jobs, composer)
        problems += wrong
    tried: set[str] = set()
    for composed, job in [each for each in zip(found, jobs, strict=True) if not (problems and each[0].decided)]:
        from ssl_runner.run.validate import prepared  # torch is imported here, after all that needs none

        ready, wrong = prepared(composed, job, tried, build)
        problems += wrong
        if ready is not None:
            typed.jobs.append(ready)
    if keys is not None and not problems:
        problems += decisive(keys, typed, words)
    if keys is not None and keys.resume is not None and typed.folder:
        if Path(typed.folder).resolve() != Path(keys.resume).resolve():
            problems.append(f"{FOLDER}: given {typed.folder}, and sweep.resume={keys.resume}; leave one out")
        typed.folder = None
    return typed


def place(words: Parted, jobs: Sequence[list[str]], composer: Composer) -> tuple[str | None, list[str]]:
    """The folder that was typed, resolved once for all jobs, and what is wrong with it."""
    job = jobs[0] if jobs else []
    known = composer.compose(job).problems
    composed = composer.compose([*job, *words.folder])
    return composed.sweep_folder, [line for line in composed.problems if line not in known]


def decisive(keys: Settings, typed: Typed, words: Parted) -> list[str]:
    """What is wrong with a metric that decides which jobs are run."""
    if typed.sweeper is None and not keys.halving:
        return []
    from ssl_runner.sweep import objective

    problems = (
        objective.mistaken(keys.metric, [each.job for each in typed.jobs], bool(keys.halving)) if typed.jobs else []
    )
    chosen_so = any(settings.key_of(each) == DIRECTION for each in words.sweeper)
    upward = typed.sweeper is not None and typed.sweeper.settings["direction"] == "maximize" and not chosen_so
    if upward and objective.is_better_smaller(keys.metric):
        problems.append(f"sweep.metric: given {keys.metric}, of which less is better; type {DIRECTION}=minimize")
    return problems


def carry_out(typed: Typed, command: list[str], composer: Composer, console: Console) -> int:
    """Runs a sweep without problems. Returns the exit status. Raises ValueError where it cannot begin or go on."""
    from ssl_runner.run.validate import prepared
    from ssl_runner.sweep.run import Planned, again, grid, opened, search

    assert typed.settings is not None
    common = shared([each.overrides for each in typed.jobs])

    def plan(trial: list[str]) -> Planned | None:
        overrides = [*typed.fixed, *trial]
        ready, problems = prepared(check_declared(composer.compose(overrides)), overrides)
        for line in problems:
            console.print(f"{' '.join(trial)} cannot be: {line}", style="red", soft_wrap=True)
        return None if ready is None else Planned(ready.content, overrides, slug(overrides, typed.fixed))

    def compose(overrides: list[str]) -> dict[str, Any]:
        ready, problems = prepared(check_declared(composer.compose(overrides)), overrides)
        if ready is None:
            raise ValueError("\n".join(f"{' '.join(overrides)}: {line}" for line in problems))
        return ready.content

    smaller = None if typed.sweeper is None else typed.sweeper.settings["direction"] == "minimize"
    try:
        with opened(typed.settings, command, typed.folder, typed.launcher, console, smaller) as sweep:
            if typed.sweeper is not None:
                return search(sweep, typed.sweeper, typed.searched, plan)
            if typed.as_they_are:
                return again(sweep, compose)
            return grid(sweep, [Planned(e.content, e.overrides, slug(e.overrides, common)) for e in typed.jobs])
    except (LauncherFailed, Refused, OSError) as error:
        raise ValueError(f"sweep: {error}") from None
