"""A job put together: encoder, pretext task, loader, learner, evaluators, trainer, in the order of initialisation."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config.check import Node
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator
from ssl_runner.duration import Duration
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.seed import seed_everything
from ssl_runner.engine.trainer import Schedule, Trainer
from ssl_runner.run.job import Job
from ssl_runner.run_folder.layout import EVALUATION


def assemble(job: Job, dataset: Dataset, data: Data, folder: Path, console: Console, provenance: dict) -> Trainer:
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
        fresh_encoders(job, dataset.shape, data),
        lambda name, split: folder / EVALUATION / name / f"{split}-training",
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


def fresh_encoders(job: Job, shape: tuple[int, ...], data: Data) -> Callable[[int], Encoder]:
    """Seeds to randomly initialised encoders; the seed of a run gives the one that the run begins with."""
    arguments = dict(job.model.arguments)
    if "pretrained" in arguments:
        arguments["pretrained"] = False  # random is random, also where the run begins from pretrained weights

    def fresh(seed: int) -> Encoder:
        seed_everything(seed, "initialise")
        return replace(job.model, arguments=arguments).build(shape=shape, mean=data.mean, std=data.std)

    return fresh
