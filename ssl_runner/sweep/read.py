"""A sweep as it was typed after -m: its jobs, its settings, its launcher and its sweeper, all checked at once.

A launcher or sweeper is a YAML of conf/hydra/ with the values, and a constructor whose signature says what they may be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from ssl_runner.config.check import check
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.declared import check_declared
from ssl_runner.config.grammar import Axis, examples, is_searched, read_axes, read_overrides
from ssl_runner.config.node import OPEN, parameters
from ssl_runner.config.text import one_value
from ssl_runner.errors import nearest
from ssl_runner.sweep.dispatch import Launcher
from ssl_runner.sweep.files import read_folders, with_files
from ssl_runner.sweep.launcher.ray import Ray
from ssl_runner.sweep.launcher.submitit import Local, Slurm
from ssl_runner.sweep.objective import SUMMARY, is_better_smaller
from ssl_runner.sweep.settings import Settings, Words, key_of, read_settings
from ssl_runner.sweep.study import PRUNERS, SAMPLERS, Optuna

if TYPE_CHECKING:
    from ssl_runner.run.preflight import PreparedJob

Prepare = Callable[..., tuple["PreparedJob | None", list[str]]]  # run.prepare.prepare_job, which needs torch
Tables = Mapping[str, Mapping[str, Callable[..., Any]]]
LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"
SAMPLER, PRUNER = "hydra/sweeper/sampler", "hydra/sweeper/pruner"
LAUNCHERS: Tables = {LAUNCHER: {"local": object, "ray": Ray, "submitit_local": Local, "submitit_slurm": Slurm}}
SWEEPERS: Tables = {SWEEPER: {"grid": object, "optuna": Optuna}, SAMPLER: SAMPLERS, PRUNER: PRUNERS}
DEFAULT = {LAUNCHER: "local", SWEEPER: "grid", SAMPLER: "tpe", PRUNER: "none"}
GPUS = {"submitit": "gpus_per_node", "ray": "ray.remote.num_gpus"}  # settings by which a launcher asks for a job's
OWN = {LAUNCHER: "; local is set by sweep.jobs_per_device, sweep.devices_per_job, sweep.threads", SWEEPER: ""}
JOBLIB = f"{LAUNCHER}=joblib: the local queue does the same; type {LAUNCHER}=local sweep.jobs_per_device=N"
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
    jobs: list["PreparedJob"] = field(default_factory=list)  # of a search: those that were checked in the place of all
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
    """Reads all of it. Jobs are built, if at all, once nothing else is wrong."""
    words, problems = with_files(words, composer)
    settings, wrong_settings = read_settings(words.own)
    launcher, wrong_launcher = read_choice(LAUNCHERS, with_gpus(words.launcher, settings.devices_per_job))
    optuna, wrong_sweeper = read_choice(SWEEPERS, words.sweeper)
    request = Request(composer, prepare, settings, launcher, optuna, recorded and optuna is None)
    jobs, wrong = [], list[str]()
    if optuna is not None:
        request.fixed = [word for word in words.jobs if not is_searched(word)]
        request.axes, wrong = read_axes([word for word in words.jobs if word not in request.fixed])
        jobs = [[*request.fixed, *trial] for trial in examples(request.axes)]
    elif not recorded:
        jobs, wrong = composer.expand(words.jobs)
    problems += [*wrong_settings, *wrong_launcher, *wrong_sweeper, *wrong]
    if len(jobs) >= MANY:
        console.print(f"checking {len(jobs)} jobs")
    composed = [check_declared(composer.compose(job, number)) for number, job in enumerate(jobs)]
    problems += [line for each in composed for line in each.problems]
    request.levels = composed[0].levels if composed else {}
    problems += read_folders(request, words, jobs)
    tried: set[str] = set()
    for each, job in [pair for pair in zip(composed, jobs, strict=True) if not (problems and pair[0].decided)]:
        ready, wrong = prepare(each, job, tried, build)
        problems += wrong
        request.jobs += [ready] if ready else []
    size, processes = settings.devices_per_job or 1, [each.content["device"].get("processes") for each in request.jobs]
    if more := [number for number in processes if isinstance(number, int) and number > size and launcher is None]:
        line = f"device.processes: given {max(more)}, and a job has {size} device{'s' * (size > 1)}"
        problems.append(f"{line}; type sweep.devices_per_job={max(more)}")
    if not problems and (optuna or settings.halving or settings.metric != Settings.metric):
        problems += check_metric(settings.metric, request.jobs, settings.halving > 0) if request.jobs else []
        upward = optuna and optuna.direction == "maximize" and DIRECTION not in map(key_of, words.sweeper)
        if upward and is_better_smaller(settings.metric):
            given = f"sweep.metric: given {settings.metric}, of which less is better"
            problems.append(f"{given}; type {DIRECTION}=minimize")
    request.problems = problems
    return request


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
    return [f"{given} no job measures; possible are {', '.join(possible)}{guess}, or type evaluator=[...]"]


def with_gpus(words: Sequence[str], count: int | None) -> list[str]:
    """The words of a launcher that asks for GPUs, and before them, so that they count for more, a job's number."""
    chosen = next((word.partition("=")[2] for word in reversed(words) if key_of(word) == LAUNCHER), DEFAULT[LAUNCHER])
    key = GPUS.get(chosen.partition("_")[0])
    return [*([f"hydra.launcher.{key}={count}"] if key and count else []), *words]


def read_choice(tables: Tables, words: Sequence[str]) -> tuple[Any, list[str]]:
    """What was chosen in the first of the tables, with the nodes of the choices in the others as attributes.

    None if it is the runner's own, or if something is wrong: a line for each such thing.
    """
    assignments, problems = read_overrides(words)
    chosen = {group: DEFAULT[group] for group in tables}
    chosen |= {each.key: str(each.raw if each.value is None else each.value) for each in assignments if "/" in each.key}
    first, name = next(iter(chosen.items()))
    if name == "joblib":
        return None, [JOBLIB]
    if name in (DEFAULT[first], "basic"):
        line = f"belongs to a {first.partition('/')[2]} that was not chosen; type {first}=...{OWN[first]}"
        return None, [*problems, *(f"{each.key}: {line}" for each in assignments if each.key != first)]
    if name in tables[first] and not find_spec(library := name.partition("_")[0]):
        problems.append(f"{first}={name}: needs {library}; type pip install 'ssl-runner[{library}]'")
    nodes = {}
    for group in sorted(chosen, key=len, reverse=True):  # a setting belongs to the longest that it begins with
        prefix, word, possible = f"{group.replace('/', '.')}.", chosen[group], tables.get(group, {})
        own = [each for each in assignments if f"{each.key}.".startswith(prefix)]
        assignments = [each for each in assignments if each not in own]
        if group not in tables:
            problems.append(f"{group}: is no group here; possible are {', '.join(tables)}")
        elif word not in possible:
            problems.append(f"{group}: given {word}; possible are {', '.join(possible)}{nearest(word, possible)}")
        else:
            content = yaml.safe_load((TREE / group / f"{word}.yaml").read_text(encoding="utf-8")) or {}
            for each in own:
                *above, last = each.key.removeprefix(prefix).split(".")
                node = content
                for key in above:  # whether it may be there, the constructor says
                    if not isinstance(node.get(key), dict):
                        node[key] = {}
                    node = node[key]
                try:
                    annotation = OPEN if above else parameters(possible[word]).get(last, (OPEN,))[0]
                    node[last] = one_value(each, annotation)
                except ValueError as error:
                    problems.append(str(error))
            nodes[group], wrong = check(content, possible[word], {})
            problems += [f"{prefix}{line}" for line in wrong]
    try:
        built = None if problems else nodes.pop(first).build()
    except ValueError as error:
        return None, [f"{first.replace('/', '.')}.{error}"]
    for group, node in nodes.items() if built else ():
        setattr(built, group.rpartition("/")[2], node)
    return built, problems
