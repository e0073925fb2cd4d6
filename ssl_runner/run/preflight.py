"""Validation of a job: its config against constructor signatures, then every part built once and tried on noise."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ssl_runner.config.check import check
from ssl_runner.config.composed import Composed
from ssl_runner.config.trust import read_project
from ssl_runner.contract import Batch, Context, Dataset, Encoder, Optimizer, Pretext, Regulariser, Samples
from ssl_runner.data.stand_ins import NoNumbers, stand_ins
from ssl_runner.duration import Length
from ssl_runner.engine.collapse import NAME as GEOMETRY
from ssl_runner.engine.learner import main_group
from ssl_runner.engine.loggers import check_loggers
from ssl_runner.errors import frames_in, last_line, one_line
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.run.estimate import check_size
from ssl_runner.run.job import RUNTIME, Job, processes_of
from ssl_runner.run.kinds import check_kinds, check_unknown_word
from ssl_runner.run.processes import check_processes
from ssl_runner.run.tried import Tried

# What a constructor raises for settings that cannot be; the last three are torch's and Python's for too large a size.
REFUSALS = (ValueError, OSError, ImportError, RuntimeError, OverflowError, TypeError, MemoryError)


@dataclass(frozen=True)
class PreparedJob:
    """A job that may begin."""

    job: Job
    content: dict[str, Any]  # its resolved config, the choices among it
    overrides: list[str]
    composed: Composed

    @property
    def name(self) -> str:
        """`rotation-shapes`: what its run folder is named by."""
        choices = (self.job.choices.get(group, group) for group in ("pretext", "dataset"))
        return "-".join(re.sub(r"[^\w-]", "_", each) for each in choices)  # a recorded one may be a path


def read_job(content: dict[str, Any], build: bool = True, tried: Tried | None = None) -> tuple[Job | None, list[str]]:
    """A config's content as a job, and a line for each thing that is wrong. Reads no data, writes nothing.

    The job is None if its config is wrong by itself. `build`: whether its parts are built and tried as well.
    """
    node, problems = check(content, Job, RUNTIME)
    if problems:
        return None, problems
    job = Job(**node.arguments)
    return job, preflight(job, tried or Tried()) if build else []


def preflight(job: Job, tried: Tried) -> list[str]:
    """Builds every part once and runs one forward pass on noise; a line for each incompatibility.

    Each setting may be right by itself, and the combination, or this machine, not.
    """
    problems = [*check_loggers(job.loggers), *check_device(job), *check_on_collapse(job)]
    optimizer = attempt("optimizer", problems, job.optimizer.build, batch_size=job.batch_size)
    dataset = attempt("dataset", problems, tried.build_dataset, job)
    if dataset is None:
        return problems
    problems += [*check_lengths(job, dataset, optimizer), *check_unknown_word(job, dataset)]
    samples = dataset.samples
    if wrong := check_kinds(job, samples) or check_size(job, samples, dataset.rows):
        return problems + wrong
    encoder = attempt("model", problems, job.build_encoder, samples)
    runtime = {**stand_ins(dataset), "fresh": lambda seed: encoder, "folder": Path(), "score": lambda rows: {}}
    for name, node in job.evaluator.items():
        attempt(f"evaluator.{name}", problems, node.build, **runtime)
    if encoder is None:
        return problems
    regulariser = attempt("regulariser", problems, job.regulariser.build)
    pretext = attempt("pretext", problems, build_pretext, job, dataset, encoder, dataset.rows)
    if pretext is not None and optimizer is not None:
        for named in pretext.groups().values():
            attempt("optimizer", problems, optimizer.build, named)
    return problems or check_forward(job, pretext, regulariser, dataset)


def attempt(key: str, problems: list[str], act: Callable[..., Any], *arguments: Any, **runtime: Any) -> Any:
    """What `act` returns, or None and a problem with its words."""
    try:
        return act(*arguments, **runtime)
    except Exception as error:
        line, source = one_line(error), read_project().source
        own = not isinstance(error, ValueError | OSError) and frames_in(error, source)
        if own or not isinstance(error, REFUSALS):
            line = last_line(error, source)
        elif type(error) in (RuntimeError, OverflowError, TypeError, MemoryError):  # none of our words
            line = f"cannot be built ({line[:200] or 'out of memory'}); choose smaller or other settings of {key}"
        problems.append(line if line.startswith(f"{key}: ") else f"{key}: {line}")
        return None


def check_device(job: Job) -> list[str]:
    problems: list[str] = []
    device = attempt("device", problems, job.device.build)
    if job.accumulate > 1 and device is not None and device.compile == "reduce-overhead":
        why = f"with accumulate={job.accumulate} a micro-batch may overwrite the gradient of the one before"
        problems.append(f"device.compile: given reduce-overhead, and {why}; type device.compile=true")
    if device is not None and (count := processes_of(device)) > 1:
        problems += check_processes(job, device, count)
    return problems


def check_on_collapse(job: Job) -> list[str]:
    if job.on_collapse == "warn" or GEOMETRY in job.evaluator:
        return []
    chosen = ",".join([*job.evaluator, GEOMETRY])
    return [f"on_collapse: given stop, and nothing would see a collapse; type evaluator=[{chosen}]"]


def check_lengths(job: Job, dataset: Dataset, optimizer: Optimizer | None) -> list[str]:
    """Batches, durations and schedules against the number of training rows."""
    every = {"log_every": job.log_every, "save_every": job.save_every, "show_every": job.show_every}
    every |= {f"evaluator.{n}.every": e.arguments["every"] for n, e in job.evaluator.items() if "every" in e.arguments}
    remedy = "type a duration above zero, as 1ep, 50st or 5%"
    problems = [f"{key}: given {each}; {remedy}" for key, each in every.items() if each.amount <= 0]
    if job.batch_size % job.accumulate:
        problems.append(f"accumulate: given {job.accumulate}, which does not divide batch_size={job.batch_size}")
    try:
        length = Length.of(job.length, dataset.rows, job.batch_size)
    except ValueError as error:
        return [*problems, str(error)]
    if optimizer is not None:
        attempt("optimizer", problems, optimizer.settings, 0, length)
    return problems


def stored_samples(dataset: Dataset) -> Samples:
    """What views are cut of: samples, or the same in more pixels."""
    return getattr(dataset, "stored_samples", dataset.samples)


def build_pretext(job: Job, dataset: Dataset, encoder: Encoder, rows: int, assets: Mapping[str, bytes] = {}) -> Pretext:
    """The pretext task. Views that would have the size of the image have that of a sample, if views are cut of more.

    `assets`: of the data, none before it is read.
    """
    samples = dataset.samples
    given: dict[str, Any] = {"samples": samples, "shape": samples.shape, "rows": rows, "assets": assets}
    pretext = job.pretext.build(encoder=encoder, **given)
    if stored_samples(dataset) != samples:
        for name, views in list(vars(pretext).items()):
            if getattr(views, "size", 0) is None:  # a recipe of views
                setattr(pretext, name, replace(views, size=samples.shape[1]))
    return pretext


def check_forward(job: Job, pretext: Pretext, regulariser: Regulariser, dataset: Dataset) -> list[str]:
    """A line if a forward pass on noise is refused, of training rows, or of others if an evaluator asks for these."""
    micro_batch = job.batch_size // job.accumulate
    try:
        rehearse(pretext, regulariser, dataset, micro_batch)
    except ValueError as error:
        line = f"pretext: {one_line(error)}"
        if micro_batch == 1 and "more than 1 value per channel" in line:  # torch's words
            given = f"batch_size: given {job.batch_size} with accumulate={job.accumulate}, one sample at a time"
            line = f"{given}, and batch normalisation needs two; type batch_size={2 * job.accumulate}, or more"
        return [line]
    except Exception:  # a bug of a method: the run itself will tell it, with its traceback
        return []
    return check_held_out(job, pretext, regulariser, dataset)


def check_held_out(job: Job, pretext: Pretext, regulariser: Regulariser, dataset: Dataset) -> list[str]:
    """Whether a task has a loss on rows that are none of its training set's, if an evaluator asks for it."""
    asking = [name for name, node in job.evaluator.items() if "score" in node.wants]
    try:
        if asking:
            rehearse(pretext, regulariser, dataset, job.batch_size // job.accumulate, numbers=NoNumbers())
    except Exception:
        given = f"{job.pretext.target.__name__} keeps something of each training row, and has no loss on others"
        return [f"evaluator.{name}: {given}; leave {name} out" for name in asking]
    return []


def rehearse(pretext: Pretext, regulariser: Regulariser, dataset: Dataset, size: int, numbers: Any = None) -> None:
    """A forward pass of `size` samples of noise, 4 at most, on the CPU: what step 0 would refuse is refused here.

    Raises ValueError with the words of whatever refuses.
    """
    n, rng = min(4, size), CounterRng(0, torch.device("cpu"))
    samples = stored_samples(dataset)
    batch = Batch(samples.example(n, torch.Generator().manual_seed(0)), numbers or torch.arange(n))
    ctx = Context(step=0, length=Length(1, 1, n), rng=rng, sweep=lambda: iter([batch]))
    with torch.no_grad():
        views = pretext.views(batch, ctx)
        if samples != dataset.samples and any(view.shape[1:] == samples.shape for view in views):
            given = f"{type(pretext).__name__} makes views of {samples.shape[1]} pixels a side, as rows are stored"
            raise ValueError(f"{given}, and the encoder takes {dataset.samples.shape[1]}; type dataset.stored=null")
        regulariser(pretext(views, main_group(pretext))._replace(samples=n), pretext)
