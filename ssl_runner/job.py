"""A config to a run: what a job's keys are, which combinations cannot be, and how the parts are put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from rich.console import Console

from ssl_runner.contract import (
    Batch,
    Context,
    Data,
    Dataset,
    Duration,
    Encoder,
    Evaluator,
    Optimizer,
    Pretext,
    Regulariser,
    Split,
)
from ssl_runner.device.placement import Placement
from ssl_runner.engine.doctor import NAME as DOCTOR
from ssl_runner.engine.learner import Learner, main_group
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.seed import seed_everything
from ssl_runner.engine.trainer import Schedule, Trainer
from ssl_runner.schema import Node, check

# What the runner itself hands to a constructor, by the key under which it stands.
RUNTIME = {
    "model": ("shape", "mean", "std"),
    "pretext": ("encoder", "shape", "rows"),
    "optimizer": ("batch_size",),
    "evaluator": ("bank", "query", "validation", "classes", "train", "fresh", "folder"),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The keys of a config, and what each may be."""

    dataset: Node[Dataset]
    pretext: Node[Pretext]
    model: Node[Encoder]
    optimizer: Node[Optimizer]
    regulariser: Node[Regulariser]
    device: Node[Placement]
    evaluator: dict[str, Node[Evaluator]] = field(default_factory=dict)
    length: Duration
    batch_size: Annotated[int, Ge(1)]
    accumulate: Annotated[int, Ge(1)] = 1
    seed: Annotated[int, Ge(0)] = 0
    log_every: Duration
    save_every: Duration
    show_every: Duration
    keep: Annotated[int, Ge(1)] = 2
    on_collapse: Literal["warn", "stop"] = "warn"
    choices: dict[str, str] = field(default_factory=dict)  # the name chosen in each group, for folders and tables


def read(content: dict[str, Any]) -> tuple[Job | None, list[str]]:
    """A config's content as a job, or a line for each thing that is wrong with it. Reads no data, writes nothing."""
    node, problems = check(content, Job, RUNTIME)
    if problems:
        return None, problems
    job = Job(**node.arguments)
    return job, impossible(job)


def impossible(job: Job) -> list[str]:
    """What each setting allows by itself but their combination, or this machine, does not: found by building it all."""
    problems: list[str] = []

    def build(key: str, node: Node, **runtime: Any) -> Any:
        try:
            return node.build(**runtime)
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            problems.append(f"{key}: {' '.join(str(error).split())}")
            return None

    device = build("device", job.device)
    if job.accumulate > 1 and device is not None and device.compile == "reduce-overhead":
        problems.append(
            f"device.compile: given reduce-overhead, and with accumulate={job.accumulate} a micro-batch may overwrite "
            "the gradient of the one before; type device.compile=true"
        )
    if job.on_collapse == "stop" and DOCTOR not in job.evaluator:
        chosen = ",".join([*job.evaluator, DOCTOR])
        problems.append(f"on_collapse: given stop, and nothing would see a collapse; type evaluator=[{chosen}]")
    regulariser = build("regulariser", job.regulariser)
    optimizer = build("optimizer", job.optimizer, batch_size=job.batch_size)
    dataset = build("dataset", job.dataset)
    if dataset is None:
        return problems
    if job.batch_size > dataset.rows:
        problems.append(f"batch_size: given {job.batch_size}, and the dataset has {dataset.rows} training rows")
    elif job.batch_size % job.accumulate:
        problems.append(f"accumulate: given {job.accumulate}, which does not divide batch_size={job.batch_size}")
    else:
        steps_per_epoch = dataset.rows // job.batch_size
        problems += durations(job, steps_per_epoch)
        if optimizer is not None and not problems:
            steps = job.length.steps(steps_per_epoch)
            build("optimizer", Node(lambda: optimizer.rate(0, steps, steps_per_epoch)))
    neutral = {"mean": (0.5,) * dataset.shape[0], "std": (0.25,) * dataset.shape[0]}
    encoder = build("model", job.model, shape=dataset.shape, **neutral)
    for name, node in job.evaluator.items():
        build(f"evaluator.{name}", node, **stand_ins(dataset), fresh=lambda seed: encoder, folder=Path())
    if encoder is None:
        return problems
    pretext = build("pretext", job.pretext, encoder=encoder, shape=dataset.shape, rows=dataset.rows)
    if pretext is not None and optimizer is not None:
        for named in pretext.groups().values():
            build("optimizer", Node(lambda named=named: optimizer.build(named)))
    if pretext is not None and regulariser is not None and not problems:
        try:
            rehearse(pretext, regulariser, dataset.shape, job.batch_size // job.accumulate)
        except ValueError as error:
            problems.append(f"pretext: {' '.join(str(error).split())}")
        except Exception:  # a bug of a method: the run itself will tell it, with its traceback
            pass
    return problems


def stand_ins(dataset: Dataset) -> dict[str, Any]:
    """As many rows as there will be: an evaluator's refusal need not wait for the data."""
    rows = torch.zeros(1, dtype=torch.int64).expand(dataset.rows)
    split = Split(rows, rows, dict.fromkeys(getattr(dataset, "factors", ()), rows))
    return {"bank": split, "query": split, "validation": split, "classes": 1, "train": rows}


def rehearse(pretext: Pretext, regulariser: Regulariser, shape: tuple[int, ...], micro_batch: int) -> None:
    """A forward pass of up to 4 samples of noise, on the CPU: what would be refused at step 0 is refused here.

    Raises ValueError with the words of whatever refuses.
    """
    n, rng = min(4, micro_batch), torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(n, *shape, generator=rng), torch.arange(n))
    ctx = Context(step=0, steps=1, steps_per_epoch=1, rng=rng, sweep=lambda: iter([batch]))
    with torch.no_grad():
        regulariser(pretext(pretext.views(batch, ctx), main_group(pretext)), pretext)


def durations(job: Job, steps_per_epoch: int) -> list[str]:
    problems = []
    try:
        if job.length.steps(steps_per_epoch) < 1:
            problems.append(f"length: given {job.length}, which is less than one step; an epoch has {steps_per_epoch}")
    except ValueError as error:
        problems.append(f"length: {error}")
    every = {"log_every": job.log_every, "save_every": job.save_every, "show_every": job.show_every}
    every |= {f"evaluator.{n}.every": e.arguments["every"] for n, e in job.evaluator.items() if "every" in e.arguments}
    problems += [
        f"{k}: given {v}; type a duration above zero, as 1ep, 50st or 5%" for k, v in every.items() if v.amount <= 0
    ]
    return problems


def evaluators(
    nodes: Mapping[str, Node[Evaluator]],
    data: Data,
    fresh: Callable[[int], Encoder],
    place: Callable[[str, str], Path],
) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """The evaluators on the validation and on the test split; those left out that the data cannot feed.

    `fresh` makes a random encoder from a seed; `place` says where an evaluator's files go, by its name and the split.
    Raises ValueError.
    """
    found: dict[str, dict[str, Evaluator]] = {}
    for split, query in (("validation", data.validation), ("test", data.test)):
        labelled = {"bank": data.bank, "query": query, "classes": len(data.classes)}
        had: dict[str, Any] = {"train": data.train, "validation": data.validation, "fresh": fresh}
        had |= labelled if data.bank is not None and query is not None else {}
        found[split] = {
            name: node.build(**had, folder=place(name, split))
            for name, node in nodes.items()
            if node.wants <= {*had, "folder"} and (split == "validation" or "query" in node.wants)
        }
    return found["validation"], found["test"]


def encoders(job: Job, shape: tuple[int, ...], data: Data) -> Callable[[int], Encoder]:
    """Seeds to randomly initialised encoders; the seed of a run gives the one that the run begins with."""
    arguments = dict(job.model.arguments)
    if "pretrained" in arguments:
        arguments["pretrained"] = False  # random is random, also where the run begins from pretrained weights

    def fresh(seed: int) -> Encoder:
        seed_everything(seed, "initialise")
        return replace(job.model, arguments=arguments).build(shape=shape, mean=data.mean, std=data.std)

    return fresh


def trainer(job: Job, dataset: Dataset, data: Data, folder: Path, console: Console, provenance: dict) -> Trainer:
    """Puts a run together. The order of initialisation is part of the result: seed, encoder, pretext, optimizers."""
    device = job.device.build()
    device.apply()
    seed_everything(job.seed, "initialise")
    encoder = job.model.build(shape=dataset.shape, mean=data.mean, std=data.std)
    pretext = job.pretext.build(encoder=encoder, shape=dataset.shape, rows=len(data.train))
    loader = Loader(
        data.train, batch_size=job.batch_size, seed=job.seed, device=device.device, accumulate=job.accumulate
    )
    steps = job.length.steps(loader.steps_per_epoch)
    learner = Learner(
        pretext,
        loader,
        job.optimizer.build(batch_size=job.batch_size),
        job.regulariser.build(),
        device,
        seed=job.seed,
        steps=steps,
    )
    validation, test = evaluators(
        job.evaluator,
        data,
        encoders(job, dataset.shape, data),
        lambda name, split: folder / "evaluation" / name / f"{split}-training",
    )

    def every(duration: Duration) -> int:
        return max(1, duration.steps(loader.steps_per_epoch, steps))

    schedule = Schedule(
        steps=steps,
        log_every=every(job.log_every),
        save_every=every(job.save_every),
        show_every=every(job.show_every),
        measure_every={name: every(each.every) for name, each in validation.items()},
        keep=job.keep,
    )
    progress = Progress(console, steps=steps, steps_per_epoch=loader.steps_per_epoch, batch_size=job.batch_size)
    return Trainer(
        *(learner, schedule, folder, progress),
        validation=validation,
        test=test,
        provenance=provenance,
        on_collapse=job.on_collapse,
    )
