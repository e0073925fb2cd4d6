"""A sweep as it was typed after -m: its jobs, its settings, its launcher and its sweeper, all checked at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import check_declared
from ssl_runner.config.grammar import Axis, examples, is_searched, read_axes
from ssl_runner.errors import nearest
from ssl_runner.run.tried import Tried
from ssl_runner.sweep.choices import LAUNCHERS, SWEEPERS, read_choice, with_gpus
from ssl_runner.sweep.dispatch import Launcher
from ssl_runner.sweep.files import read_folders, with_files
from ssl_runner.sweep.objective import SUMMARY, is_better_smaller
from ssl_runner.sweep.settings import Settings, Words, key_of, read_settings
from ssl_runner.sweep.study import Optuna

if TYPE_CHECKING:
    from ssl_runner.run.preflight import PreparedJob

Prepare = Callable[..., tuple["PreparedJob | None", list[str]]]  # run.prepare.prepare_job, which needs torch
LOGGED = ("train", "regulariser", "optimizer", "speed")  # groups of metrics.jsonl that are no evaluator's
DIRECTION = "hydra.sweeper.direction"
MANY = 50  # jobs whose check takes a moment


@dataclass
class Request:
    """A sweep that may begin if there are no `problems`, a line each. Without a launcher it has the local queue."""

    composer: Composer
    prepare: Prepare
    settings: Settings
    launcher: Launcher | None = None
    optuna: Optuna | None = None
    recorded: bool = False  # the jobs are those of the ledger, each with the config in its folder
    fixed: list[str] = field(default_factory=list)  # of a search: overrides of every trial
    axes: list[Axis] = field(default_factory=list)  # of a search
    jobs: list["PreparedJob"] = field(default_factory=list)  # of a search: examples, which were checked for all others
    folder: str | None = None
    naming: list[str] = field(default_factory=list)  # what was typed of folders
    names: bool = False  # whether hydra.sweep.subdir names the folders of jobs
    levels: dict[str, str] = field(default_factory=dict)  # of loggers, in each job
    problems: list[str] = field(default_factory=list)

    def compose(self, overrides: list[str]) -> dict[str, Any]:
        """The config of a job. Raises ValueError with what is wrong with it."""
        ready, problems = self.prepare(check_declared(self.composer.compose(overrides)), overrides)
        if ready is None:
            raise ValueError("\n".join(f"{' '.join(overrides)}: {line}" for line in problems))
        return ready.content

    def subfolder(self, overrides: list[str], number: int) -> str | None:
        """The name of a job's folder below the sweep's by hydra.sweep.subdir; None if it names none."""
        return self.composer.compose([*overrides, *self.naming], number).subfolder if self.names else None


def read(
    words: Words, composer: Composer, prepare: Prepare, console: Console, recorded: bool = False, build: bool = True
) -> Request:
    """Reads and checks a sweep. Jobs are built, which takes time, only if nothing else is wrong."""
    words, problems = with_files(words, composer)
    settings, wrong_settings = read_settings(words.own)
    launcher, wrong_launcher = read_choice(LAUNCHERS, with_gpus(words.launcher, settings.devices_per_job))
    optuna, wrong_sweeper = read_choice(SWEEPERS, words.sweeper)
    request = Request(composer, prepare, settings, launcher, optuna, recorded and optuna is None)
    jobs, wrong_jobs = read_jobs(request, words.jobs)
    problems += [*wrong_settings, *wrong_launcher, *wrong_sweeper, *wrong_jobs]
    if len(jobs) >= MANY:
        console.print(f"checking {len(jobs)} jobs")
    composed = [check_declared(composer.compose(job, number)) for number, job in enumerate(jobs)]
    problems += [line for each in composed for line in each.problems]
    request.levels = composed[0].levels if composed else {}
    problems += read_folders(request, words, jobs)
    tried, found = Tried(), dict[str, list[list[str]]]()  # what is wrong, and with which jobs
    for each, job in [pair for pair in zip(composed, jobs, strict=True) if not (problems and pair[0].decided)]:
        ready, wrong = prepare(each, job, tried, build)
        request.jobs += [ready] if ready else []
        for line in wrong:
            found.setdefault(line, []).append(job)
    problems += [line if line in problems else name_job(line, wrong, jobs) for line, wrong in found.items()]
    problems += check_processes(request)
    request.problems = problems or check_objective(request, words.sweeper)
    return request


def name_job(line: str, wrong: Sequence[list[str]], jobs: Sequence[list[str]]) -> str:
    """A problem of the `wrong` ones among the jobs; unless all have it, with what tells the first of them apart."""
    common = set.intersection(*map(set, jobs))
    own = [word for word in wrong[0] if word not in common]
    return line if len(wrong) == len(jobs) else f"{line} (as with {' '.join(own)})"


def read_jobs(request: Request, words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The overrides of each job to be checked: every one of a grid, examples of a search, none of a sweep's folder."""
    if request.recorded:
        return [], []
    if request.optuna is None:
        return request.composer.expand(words)
    request.fixed = [word for word in words if not is_searched(word)]
    request.axes, problems = read_axes([word for word in words if word not in request.fixed])
    return [[*request.fixed, *trial] for trial in examples(request.axes)], problems


def check_processes(request: Request) -> list[str]:
    """A line if a job of the local queue has more processes than devices."""
    size = request.settings.devices_per_job or 1
    processes = [each.content["device"].get("processes") for each in request.jobs if request.launcher is None]
    if most := max((each for each in processes if isinstance(each, int) and each > size), default=0):
        line = f"device.processes: given {most}, and a job has {size} device{'s' * (size > 1)}"
        return [f"{line}; type sweep.devices_per_job={most}"]
    return []


def check_objective(request: Request, sweeper: Sequence[str]) -> list[str]:
    """Whether what a search or halving goes by is measured, and is sought where it is better."""
    settings, optuna = request.settings, request.optuna
    if not (optuna or settings.halving or settings.metric != Settings.metric):
        return []
    problems = check_metric(settings.metric, request.jobs, settings.halving > 0) if request.jobs else []
    upward = optuna and optuna.direction == "maximize" and DIRECTION not in map(key_of, sweeper)
    if upward and is_better_smaller(settings.metric):
        given = f"sweep.metric: given {settings.metric}, of which less is better"
        problems.append(f"{given}; type {DIRECTION}=minimize")
    return problems


def check_metric(metric: str, jobs: Sequence["PreparedJob"], halving: bool) -> list[str]:
    """Whether some job measures the metric, and in time for halving."""
    evaluators = {name: node for each in jobs for name, node in each.job.evaluator.items()}
    group, slash, _ = metric.partition("/")
    given = f"sweep.metric: given {metric}, which"
    if halving and (group == "test" or not slash):
        return [f"{given} has no curve for sweep.halving: it is measured at the end of a run"]
    evaluator, _, number = metric.removeprefix("test/").partition("/")
    known = {name: getattr(node.target, "numbers", ("*",)) for name, node in evaluators.items()}
    if any(fnmatch(number, pattern) for pattern in known.get(evaluator, ())) or metric in SUMMARY or group in LOGGED:
        return []
    possible = [f"{evaluator}/{each}" for each in known.get(evaluator, ())]
    possible = possible or [f"{name}/{getattr(node.target, 'headline', '')}" for name, node in evaluators.items()]
    possible += [*SUMMARY, "train/loss"]
    guess = nearest(metric, possible)
    return [f"{given} no job measures; possible are {', '.join(possible)}, or type evaluator=[...]{guess}"]
