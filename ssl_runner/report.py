"""What a run says of itself: at its beginning, at its end, and as a row of TensorBoard's HPARAMS tab."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ssl_runner.contract import Data
from ssl_runner.engine.trainer import Trainer
from ssl_runner.job import Job

log = logging.getLogger("ssl_runner")

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device")
HPARAM_METRICS = ("knn/top1", "probe/top1", "test/knn_top1", "test/probe_top1", "train/loss")


def introduce(run: Trainer, job: Job, data: Data, start: int) -> None:
    learner, schedule = run.learner, run.schedule
    trained = sum(p.numel() for named in learner.groups.values() for _, p in named)
    encoder = sum(p.numel() for p in run.encoder.parameters())
    log.info(
        "%s on %s: %s training samples, %s parameters (encoder %s), %s steps of %s samples, %s epochs, on %s",
        *(job.choices.get("pretext", "pretext"), job.choices.get("dataset", "dataset"), f"{len(data.train):,}"),
        *(f"{trained:,}", f"{encoder:,}", f"{schedule.steps:,}", job.batch_size),
        *(f"{schedule.steps / run.per_epoch:.4g}", learner.device),
    )
    scaled = getattr(learner.recipe, "scale_lr", False)
    if scaled:
        log.info("learning rate scaled with the batch size: peak %.4g", learner.recipe.peak)  # type: ignore[attr-defined]
    if not run.validation:
        why = "no evaluator is chosen" if not job.evaluator else "the dataset has no labels"
        log.info("evaluation while training is off: %s", "there is no validation split" if run.test else why)
    log.info("run folder: %s", run.folder)
    if start:
        log.info("resumed at step %d of %d", start, schedule.steps)


def hparams(job: Job, overrides: Sequence[str]) -> dict[str, str | float | bool]:
    """The same names for every run, whatever was chosen: the columns of TensorBoard's HPARAMS tab."""
    recipe = job.optimizer.build(batch_size=job.batch_size)
    chosen: dict[str, str | float | bool] = {group: job.choices.get(group, "") for group in GROUPS}
    return chosen | {
        "optimizer.lr": getattr(recipe, "lr", 0.0),
        "optimizer.weight_decay": getattr(recipe, "weight_decay", 0.0),
        "batch_size": job.batch_size,
        "length": str(job.length),
        "seed": job.seed,
        "overrides": shlex.join(overrides),
    }


def conclude(summary: dict[str, Any], folder: Path, console: Console) -> None:
    """The table at the end, and what to type next."""
    if summary["status"] == "interrupted":
        console.print(f"interrupted at step {summary['step']} of {summary['steps']}; to go on:", highlight=False)
        console.print(f"  ssl-runner resume {shlex.quote(str(folder))}", highlight=False, soft_wrap=True)
        return
    if summary["status"] == "failed":
        console.print(f"failed; the whole story is in {folder / 'run.log'}", highlight=False, soft_wrap=True)
        return
    tested = {name.replace("_", "/", 1): value for name, value in summary["test"].items()}
    qualities = [name for name in {**summary["final"], **tested} if name.endswith("/top1")]
    if qualities:
        table = Table("accuracy", "random encoder", "trained", "gain", "test", box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for name in qualities:
            base, final = summary["baseline"].get(name), summary["final"].get(name)
            gain = "" if base is None or final is None else f"{100 * (final - base):+.1f}"
            table.add_row(name.removesuffix("/top1"), percent(base), percent(final), gain, percent(tested.get(name)))
        console.print(table)
    seconds, speed = summary["seconds"], summary["images_per_second"]
    console.print(f"{summary['steps']} steps in {seconds:.0f} s, {speed:,.0f} images/s", highlight=False)
    console.print(f"run folder:   {folder}", highlight=False, soft_wrap=True)
    console.print(f"to see it:    tensorboard --logdir {shlex.quote(str(folder))}", highlight=False, soft_wrap=True)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
