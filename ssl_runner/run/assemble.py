"""Assembly of a job: data, encoder, pretext task, loader, learner, evaluators, trainer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config.node import Node
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Samples
from ssl_runner.duration import Length
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.measurements import Measurements
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.seed import seed_everything
from ssl_runner.engine.trainer import Schedule, Trainer
from ssl_runner.errors import Refused
from ssl_runner.run.job import Job
from ssl_runner.run_folder.layout import EVALUATION


def load_data(job: Job) -> tuple[Dataset, Data]:
    """Reads the data and tries batches and evaluators on it. Raises Refused."""
    dataset = job.dataset.build()
    try:
        data = dataset.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"dataset: {error}") from None
    try:
        Length.of(job.length, len(data.train), job.batch_size)  # fewer rows than counted on if files are unreadable
    except ValueError as error:
        raise Refused(error) from None
    samples = dataset.samples
    try:
        evaluators(job.evaluator, data, samples, fresh_encoders(job, samples, data), lambda *_: Path())
    except ValueError as error:
        raise Refused(f"evaluator: {error}") from None
    return dataset, data


def assemble(job: Job, dataset: Dataset, data: Data, folder: Path, console: Console, provenance: dict) -> Trainer:
    """Puts a run together. The order of initialisation is part of the result: seed, encoder, pretext, optimizers."""
    device = job.device.build()
    device.apply()
    samples = dataset.samples
    seed_everything(job.seed, "initialise")
    encoder = build_encoder(job.model, samples, data)
    pretext = job.pretext.build(encoder=encoder, samples=samples, shape=samples.shape, rows=len(data.train))
    length = Length.of(job.length, len(data.train), job.batch_size)
    loader = Loader(data.train, samples, length=length, seed=job.seed, device=device.device, accumulate=job.accumulate)
    optimizer, regulariser = job.optimizer.build(batch_size=job.batch_size), job.regulariser.build()
    learner = Learner(pretext, loader, optimizer, regulariser, device, seed=job.seed)
    validation, test = evaluators(
        job.evaluator,
        data,
        samples,
        fresh_encoders(job, samples, data),
        lambda name, split: folder / EVALUATION / name / f"{split}-training",
    )
    progress = Progress(console, length)
    every = {name: length.every(each.every) for name, each in validation.items()}
    measurements = Measurements(learner, progress, validation=validation, test=test, every=every)
    schedule = Schedule(
        log_every=length.every(job.log_every),
        save_every=length.every(job.save_every),
        show_every=length.every(job.show_every),
        keep=job.keep,
    )
    trained = next(name for name, module in pretext.named_modules() if module is measurements.encoder)
    return Trainer(
        *(learner, schedule, folder, progress, measurements),
        provenance={**provenance, "trained": trained},
        on_collapse=job.on_collapse,
    )


def build_encoder(model: Node[Encoder], samples: Samples, data: Data) -> Encoder:
    return model.build(samples=samples, shape=samples.shape, mean=data.mean, std=data.std)


def evaluators(
    nodes: Mapping[str, Node[Evaluator]],
    data: Data,
    samples: Samples,
    fresh: Callable[[int], Encoder],
    place: Callable[[str, str], Path],
) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """The evaluators on the validation and on the test split; those left out that the data cannot feed.

    `fresh` makes a random encoder from a seed; `place` says where an evaluator's files go, by its name and the split.
    Raises ValueError.
    """
    built: dict[str, dict[str, Evaluator]] = {}
    for split, query in (("validation", data.validation), ("test", data.test)):
        labelled = {"bank": data.bank, "query": query, "classes": len(data.classes)}
        had: dict[str, Any] = {"train": data.train, "validation": data.validation, "sample": samples, "fresh": fresh}
        had |= labelled if data.bank is not None and query is not None else {}
        built[split] = {
            name: node.build(**had, folder=place(name, split))
            for name, node in nodes.items()
            if node.wants <= {*had, "folder"} and (split == "validation" or "query" in node.wants)
        }
    return built["validation"], built["test"]


def fresh_encoders(job: Job, samples: Samples, data: Data) -> Callable[[int], Encoder]:
    """Seeds to randomly initialised encoders; the seed of a run gives the one that the run begins with."""
    arguments = dict(job.model.arguments)
    if "pretrained" in arguments:
        arguments["pretrained"] = False  # random is random, also where the run begins from pretrained weights

    def fresh(seed: int) -> Encoder:
        seed_everything(seed, "initialise")
        return build_encoder(replace(job.model, arguments=arguments), samples, data)

    return fresh
