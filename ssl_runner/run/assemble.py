"""Assembly of a job: data, encoder, pretext task, loader, learner, evaluators, trainer."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from ssl_runner.config.node import Node
from ssl_runner.config.trust import foreign_code
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Rows, Samples
from ssl_runner.data.check import read_data
from ssl_runner.data.text_files.reading_back import decode_of, tokenise_of
from ssl_runner.duration import Length
from ssl_runner.engine.held_out_loss import HeldOutLoss
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.measurements import Measurements
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.seed import seed_everything
from ssl_runner.engine.trainer import Trainer
from ssl_runner.errors import Refused
from ssl_runner.probing.protocol import Unlabelled
from ssl_runner.run.job import Job
from ssl_runner.run.preflight import PreparedJob, build_pretext
from ssl_runner.run_folder.layout import EVALUATION

log = logging.getLogger("ssl_runner")
Fresh = Callable[[int], Encoder]  # seeds to randomly initialised encoders


def load_data(prepared: PreparedJob, check: Callable[[Data], None] = lambda data: None) -> tuple[Dataset, Data]:
    """Says whose code runs, reads the data, checks it, and tries batches and evaluators on it. Raises Refused."""
    for line in [*foreign_code(prepared.content), *prepared.composed.notes]:
        log.info(line)
    job, dataset = prepared.job, prepared.job.dataset.build()
    data = read_data(dataset)
    check(data)
    try:
        Length.of(job.length, len(data.train), job.batch_size)  # fewer rows than counted on if files are unreadable
    except ValueError as error:
        raise Refused(error) from None
    fresh = fresh_encoders(job, dataset.samples, data)
    evaluators(job.evaluator, data, dataset.samples, fresh, lambda *_: Path(), score=lambda rows: {})
    return dataset, data


def assemble(
    job: Job,
    dataset: Dataset,
    data: Data,
    folder: Path,
    console: Console,
    *,
    begun_with: int | None = None,
    initial: Mapping[str, Tensor] | None = None,
    evaluation: Path | None = None,
) -> Trainer:
    """Puts a run together. The order of initialisation is part of the result: seed, encoder, pretext, optimizers.

    `begun_with`: training rows that the length is of, if not those of `data`. `initial`: weights of the encoder.
    `evaluation`: where evaluators write, if not in the folder.
    """
    device = job.device.build()
    device.apply()
    samples, rows = dataset.samples, data.train
    seed_everything(job.seed, "initialise")
    encoder = job.build_encoder(samples, data)
    if initial is not None:
        encoder.load_state_dict(initial)  # the normalisation that they were learnt with is among them
    pretext = build_pretext(job, dataset, encoder, len(rows), data.assets)
    length = Length.of(job.length, begun_with or len(rows), job.batch_size)
    how: dict[str, Any] = {"seed": job.seed, "device": device.device, "accumulate": job.accumulate}
    loader = Loader(rows, samples, length=length, stored=data.stored, **how)
    optimizer, regulariser = job.optimizer.build(batch_size=job.batch_size), job.regulariser.build()
    learner = Learner(pretext, loader, optimizer, regulariser, device, seed=job.seed)
    fresh, progress = fresh_encoders(job, samples, data), Progress(console, length)

    def place(name: str, split: str) -> Path:
        return (evaluation or folder / EVALUATION) / name / f"{split}-training"

    score = HeldOutLoss(learner)
    validation, test = evaluators(job.evaluator, data, samples, fresh, place, score=score)
    split = {"validation": validation, "test": test}
    measurements = Measurements(learner=learner, progress=progress, place=place, score=score, **split)
    trained = next(name for name, module in pretext.named_modules() if module is measurements.encoder)
    return Trainer(
        learner=learner,
        folder=folder,
        log_every=length.every(job.log_every),
        save_every=length.every(job.save_every),
        show_every=length.every(job.show_every),
        keep=job.keep,
        progress=progress,
        measurements=measurements,
        provenance={"trained": trained},
        on_collapse=job.on_collapse,
        decode=decode_of(data),
    )


def evaluators(
    nodes: Mapping[str, Node[Evaluator]],
    data: Data,
    samples: Samples,
    fresh: Fresh,
    place: Callable[[str, str], Path],
    *,
    score: Callable[[Rows], Mapping[str, float]] | None = None,
) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """The evaluators on the validation and on the test split, less those that need labels or rows that are not there.

    `place` says where an evaluator's files go, by its name and the split. `score`: the task's own numbers of rows, if
    there is a task. Raises Refused if one does not suit the data.
    """
    built: dict[str, dict[str, Evaluator]] = {"validation": {}, "test": {}}
    for split, query in (("validation", data.validation), ("test", data.test)):
        had: dict[str, Any] = {"train": data.train, "validation": data.validation, "sample": samples, "fresh": fresh}
        had |= {"score": score, "tokenise": tokenise_of(data.assets, samples), "decode": decode_of(data)}
        had["query"] = query
        if data.bank is not None and query is not None:
            had |= {"bank": data.bank, "classes": len(data.classes), "class_names": data.classes}
        for name, node in nodes.items():
            lacking = node.wants - {*had, "folder"} or (query is None and not node.allows_none("query"))
            if lacking or (split == "test" and "query" not in node.wants):
                continue
            try:
                built[split][name] = node.build(**had, folder=place(name, split))
            except ValueError as error:
                if not isinstance(error, Unlabelled) or None not in (data.bank, query):
                    raise Refused(f"evaluator: {error}") from None
    return built["validation"], built["test"]


def fresh_encoders(job: Job, samples: Samples, data: Data) -> Fresh:
    """Seeds to randomly initialised encoders; the seed of a run gives the one that the run begins with."""
    if "pretrained" in job.model.arguments:  # random is random, also if the run begins from pretrained weights
        job = replace(job, model=replace(job.model, arguments={**job.model.arguments, "pretrained": False}))

    def fresh(seed: int) -> Encoder:
        seed_everything(seed, "initialise")
        return job.build_encoder(samples, data)

    return fresh
