"""The words of a sweep itself, as typed: `sweep.resume=FOLDER`, `sweep.on_error=stop`, `hydra.sweep.dir=FOLDER`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from ssl_runner.config.check import check
from ssl_runner.plugins import chosen

PREFIX = "sweep."
RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"
AS_TYPED = ("resume", "metric")  # a path, and a name with a slash: nothing in them is syntax


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the jobs of a sweep are carried out. Only halving, which may stop a job, changes what a job comes to.

    Args:
        resume: folder of a sweep to go on with: what is completed is skipped, what was cut off is resumed, what failed
            is tried again.
        on_error: stop lets the running jobs end and starts no other.
        jobs_per_device: jobs at once on each GPU, or on the CPU.
        threads: CPU threads of a job; by default the machine's cores shared out among the jobs at once.
        metric: what tells the best job, what halving looks at, and what a sweeper searches by.
        halving: 0, or how many times fewer jobs go on at each rung: 3 stops all but the best third. Every job is judged
            by itself, also the seeds of one setting against each other: it is for finding a setting, not for comparing
            settings over seeds.
        first_rung: share of a run after which jobs are compared for the first time.
    """

    resume: str | None = None
    on_error: Literal["continue", "stop"] = "continue"
    jobs_per_device: Annotated[int, Ge(1)] = 1
    threads: Annotated[int, Ge(1)] | None = None
    metric: str = "knn/top1"
    halving: Annotated[int, Interval(ge=0)] = 0
    first_rung: Annotated[float, Interval(gt=0, lt=1)] = 0.1


@dataclass(frozen=True)
class Parted:
    """Words by what they are for."""

    jobs: list[str]
    own: list[str]
    launcher: list[str]
    sweeper: list[str]
    folder: list[str]

    @property
    def resume(self) -> str | None:
        return next((each.partition("=")[2] for each in reversed(self.own) if key_of(each) == RESUME), None)


def parted(words: Sequence[str]) -> Parted:
    """Where a sweep lies and how it is carried out is no part of its jobs, nor of what a job is known by."""
    folder = [each for each in words if key_of(each) == FOLDER]
    own = [each for each in words if key_of(each).startswith(PREFIX) and "=" in each]
    jobs, plugins = chosen.parted([each for each in words if each not in folder and each not in own])
    return Parted(jobs, own, plugins["launcher"], plugins["sweeper"], folder)


def key_of(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def together(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The words of a sweep that goes on: those it was begun with, and after them those that are typed now.

    Of the sweep's own and of a plugin the ones typed now take the place of the earlier ones.
    """
    new = parted(now)
    replaced = {key_of(each) for each in (*new.own, *new.launcher, *new.sweeper)} | {RESUME, FOLDER}
    chosen_anew = {kind for kind in ("launcher", "sweeper") if f"hydra/{kind}" in replaced}
    old = parted(before)
    dropped = {each for kind in chosen_anew for each in getattr(old, kind)}
    kept = [each for each in before if key_of(each) not in replaced and each not in dropped]
    return [*kept, *(each for each in now if each not in (*new.folder, "-m", "--multirun") and key_of(each) != RESUME)]


def read(typed: Sequence[str]) -> tuple[Settings | None, list[str]]:
    """The settings, or a line for each thing that is wrong with them."""
    literal = {f"{PREFIX}{name}" for name in AS_TYPED}
    values, problems = chosen.values([each for each in typed if key_of(each) not in literal])
    content: dict[str, Any] = {key.removeprefix(PREFIX): value for key, value in values.items()}
    content |= {key_of(each).removeprefix(PREFIX): each.partition("=")[2] for each in typed if key_of(each) in literal}
    node, wrong = check(content, Settings, {})
    problems += [f"{PREFIX}{line}" for line in wrong]
    if not problems and node.arguments.get("halving") == 1:
        problems.append("sweep.halving: given 1, with which nothing is halved; type 0, or 2 and more")
    return (None if problems else Settings(**node.arguments)), problems
