"""Pre-flight check of a job: build every part once and run one forward pass on noise, before data is read."""

from pathlib import Path
from typing import Any

import torch

from ssl_runner.config.check import Node, check
from ssl_runner.contract import Batch, Context, Dataset, Pretext, Regulariser, Split
from ssl_runner.engine.collapse import NAME as DOCTOR
from ssl_runner.engine.learner import main_group
from ssl_runner.run.job import RUNTIME, Job


def read_job(content: dict[str, Any]) -> tuple[Job | None, list[str]]:
    """A config's content as a job, or a line for each thing that is wrong with it. Reads no data, writes nothing."""
    node, problems = check(content, Job, RUNTIME)
    if problems:
        return None, problems
    job = Job(**node.arguments)
    return job, preflight(job)


def preflight(job: Job) -> list[str]:
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
        problems += check_durations(job, steps_per_epoch)
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


def check_durations(job: Job, steps_per_epoch: int) -> list[str]:
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
