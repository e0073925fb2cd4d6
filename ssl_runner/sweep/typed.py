"""A sweep as it was typed after -m: its jobs, its own settings, its launcher and its sweeper, all checked at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ssl_runner.config import Composer
from ssl_runner.engine.folder import Occupied
from ssl_runner.plugins import chosen
from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.launch import LauncherFailed
from ssl_runner.plugins.optimise import divided, examples
from ssl_runner.ready import Ready, prepared
from ssl_runner.sweep import settings
from ssl_runner.sweep.carry_out import Planned, grid, opened, search
from ssl_runner.sweep.naming import slug
from ssl_runner.sweep.settings import Settings


@dataclass
class Typed:
    """A sweep that may begin where `problems` is empty."""

    settings: Settings | None
    launcher: Plugin | None
    sweeper: Plugin | None
    fixed: list[str] = field(default_factory=list)  # of a search: what all trials share
    searched: list[str] = field(default_factory=list)
    jobs: list[Ready] = field(default_factory=list)  # of a search: those that were checked in the place of all
    folder: str | None = None
    problems: list[str] = field(default_factory=list)


def read(overrides: Sequence[str], composer: Composer) -> Typed:
    """Everything that is wrong is in `problems`, a line each."""
    rest, own = settings.parted(overrides)
    words, plugins = chosen.parted(rest)
    keys, problems = settings.read(own)
    typed = Typed(keys, None, None, problems=problems)
    typed.launcher, wrong = chosen.read("launcher", plugins["launcher"])
    typed.sweeper, more = chosen.read("sweeper", plugins["sweeper"])
    problems += wrong + more
    if typed.sweeper is None:
        jobs, wrong = composer.expand(words)
    else:
        typed.fixed, typed.searched = divided(words)
        trials, wrong = examples(typed.searched)
        jobs = [[*typed.fixed, *trial] for trial in trials]
    problems += wrong
    for job in jobs:
        ready, wrong, composed = prepared(composer, job)
        problems += wrong
        if ready is not None:
            typed.jobs.append(ready)
        if composed.folder:
            problems.append("hydra.run.dir: names the folder of a single run; type hydra.sweep.dir=... with -m")
        typed.folder = composed.sweep_folder or typed.folder
    if keys is not None and keys.resume is not None and typed.folder:
        if Path(typed.folder).resolve() != Path(keys.resume).resolve():
            problems.append(f"hydra.sweep.dir: given {typed.folder}, and sweep.resume={keys.resume}; leave one out")
        typed.folder = None
    return typed


def carry_out(typed: Typed, command: list[str], composer: Composer, console: Console) -> int:
    """Runs a sweep without problems. Returns the exit status. Raises ValueError where it cannot begin or go on."""
    assert typed.settings is not None
    every = [each.overrides for each in typed.jobs]

    def plan(trial: list[str]) -> Planned | None:
        overrides = [*typed.fixed, *trial]
        ready, problems, _ = prepared(composer, overrides)
        for line in problems:
            console.print(f"{' '.join(trial)} cannot be: {line}", style="red", soft_wrap=True)
        return None if ready is None else Planned(ready.content, overrides, slug(overrides, [overrides, typed.fixed]))

    try:
        with opened(typed.settings, command, typed.folder, typed.launcher, console) as sweep:
            if typed.sweeper is not None:
                return search(sweep, typed.sweeper, typed.searched, plan)
            return grid(sweep, [Planned(e.content, e.overrides, slug(e.overrides, every)) for e in typed.jobs])
    except (LauncherFailed, Occupied, OSError) as error:
        raise ValueError(f"sweep: {error}") from None
