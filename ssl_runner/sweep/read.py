"""A sweep as it was typed after -m: its jobs, its settings, its launcher and its sweeper, all checked at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import check_declared
from ssl_runner.config.hydra import Axis, examples, is_searched, read_axes
from ssl_runner.errors import nearest
from ssl_runner.sweep.choice import read_launcher, read_sweeper
from ssl_runner.sweep.dispatch import Launcher
from ssl_runner.sweep.objective import LOGGED, SUMMARY, is_better_smaller
from ssl_runner.sweep.settings import FOLDER, Settings, Words, key_of, read_settings
from ssl_runner.sweep.study import Optuna

if TYPE_CHECKING:
    from ssl_runner.run.preflight import PreparedJob

DIRECTION = "hydra.sweeper.direction"
MANY = 50  # jobs whose check takes a moment


@dataclass
class Request:
    """A sweep that may begin if there are no `problems`, a line each. Without a launcher it has the local queue."""

    composer: Composer
    prepare: Callable[..., tuple["PreparedJob | None", list[str]]]  # run.preflight.prepare_job, which needs torch
    recorded: bool = False  # the jobs are those of the ledger, each with the config in its folder
    settings: Settings | None = None
    launcher: Launcher | None = None
    optuna: Optuna | None = None
    fixed: list[str] = field(default_factory=list)  # of a search: overrides of every trial
    axes: list[Axis] = field(default_factory=list)  # of a search
    jobs: list["PreparedJob"] = field(default_factory=list)  # of a search: those that were checked in the place of all
    folder: str | None = None
    problems: list[str] = field(default_factory=list)

    def compose(self, overrides: list[str]) -> dict[str, Any]:
        """The config of a job. Raises ValueError with what is wrong with it."""
        ready, problems = self.prepare(check_declared(self.composer.compose(overrides)), overrides)
        if ready is None:
            raise ValueError("\n".join(f"{' '.join(overrides)}: {line}" for line in problems))
        return ready.content


def read(
    words: Words,
    composer: Composer,
    prepare: Callable[..., tuple["PreparedJob | None", list[str]]],
    console: Console,
    recorded: bool = False,
    build: bool = True,
) -> Request:
    """Reads all of it. Jobs are built, if at all, once nothing else is wrong."""
    request = Request(composer, prepare)
    request.settings, problems = read_settings(words.own)
    request.launcher, wrong = read_launcher(words.launcher)
    request.optuna, more = read_sweeper(words.sweeper)
    request.recorded = recorded and request.optuna is None
    problems += wrong + more
    jobs: list[list[str]] = []
    if request.optuna is not None:
        request.fixed = [word for word in words.jobs if not is_searched(word)]
        request.axes, wrong = read_axes([word for word in words.jobs if word not in request.fixed])
        jobs = [[*request.fixed, *trial] for trial in examples(request.axes)]
    elif not recorded:
        jobs, wrong = composer.expand(words.jobs)
    problems += wrong
    if len(jobs) >= MANY:
        console.print(f"checking {len(jobs)} jobs")
    composed = [check_declared(composer.compose(job)) for job in jobs]
    for each in composed:
        problems += each.problems
        if each.folder:
            problems.append(f"hydra.run.dir: names the folder of a single run; type {FOLDER}=... with -m")
    if words.folder:
        problems += read_folder(request, words, jobs[0] if jobs else [])
    tried: set[str] = set()
    for each, job in [pair for pair in zip(composed, jobs, strict=True) if not (problems and pair[0].decided)]:
        ready, wrong = prepare(each, job, tried, build)
        problems += wrong
        request.jobs += [ready] if ready else []
    request.problems = problems or check_objective(request, words)
    return request


def read_folder(request: Request, words: Words, job: list[str]) -> list[str]:
    """Resolves the folder that was typed, once for all jobs. Returns what is wrong with it."""
    known = request.composer.compose(job).problems
    composed = request.composer.compose([*job, *words.folder])
    folder, resume = composed.sweep_folder, words.resume
    problems = [line for line in composed.problems if line not in known]
    if resume is None:
        request.folder = folder
    elif folder and Path(folder).resolve() != Path(resume).resolve():
        problems.append(f"{FOLDER}: given {folder}, and sweep.resume={resume}; leave one out")
    return problems


def check_objective(request: Request, words: Words) -> list[str]:
    """What is wrong with a metric that decides which jobs are run."""
    settings, optuna = request.settings, request.optuna
    if settings is None or (optuna is None and not settings.halving):
        return []
    problems = check_metric(settings.metric, request.jobs, settings.halving > 0) if request.jobs else []
    upward = optuna and optuna.direction == "maximize" and DIRECTION not in map(key_of, words.sweeper)
    if upward and is_better_smaller(settings.metric):
        problems.append(f"sweep.metric: given {settings.metric}, of which less is better; type {DIRECTION}=minimize")
    return problems


def check_metric(metric: str, jobs: Sequence["PreparedJob"], halving: bool) -> list[str]:
    """Whether some job measures the metric, and in time for halving."""
    evaluators = {name: node for each in jobs for name, node in each.job.evaluator.items()}
    group, slash, _ = metric.partition("/")
    given = f"sweep.metric: given {metric}, which"
    if halving and (group == "test" or not slash):
        return [f"{given} has no curve for sweep.halving: it is measured at the end of a run"]
    if group in (*evaluators, *LOGGED, "test") if slash else metric in SUMMARY:
        return []
    headlines = [f"{name}/{getattr(node.target, 'headline', '')}" for name, node in evaluators.items()]
    possible = [*headlines, *SUMMARY, "train/loss"]
    guess = nearest(metric, possible)
    return [f"{given} no job measures; possible are {', '.join(possible)}{guess}, or type evaluator=[...]"]
