"""Report of a run: first lines, summary.json, the table at the end, the row of TensorBoard's HPARAMS tab."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ssl_runner.config.override import paths
from ssl_runner.contract import Data, Samples
from ssl_runner.errors import plural, printable
from ssl_runner.run.job import Job
from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.gain import gain_of
from ssl_runner.run_folder.layout import GROUPS, LOG, SUMMARY
from ssl_runner.run_folder.summary import Meanings, summarise_numbers

if TYPE_CHECKING:
    from ssl_runner.engine.trainer import Trainer

log = logging.getLogger("ssl_runner")

SHOWN = 5  # classes that are named
SETTINGS = ("optimizer.lr", "batch_size", "length", "seed")  # shown for every run, typed or not


def print_beginning(run: "Trainer", job: Job, data: Data, samples: Samples, start: int) -> None:
    learner, length, measured = run.learner, run.length, run.measurements
    trained = sum(p.numel() for named in learner.groups.values() for _, p in named)
    encoder = sum(p.numel() for p in measured.encoder.parameters())
    log.info(f"{job.choices.get('pretext', 'pretext')} on {describe_data(job, data, samples)}")
    epochs = f"{length.epochs:.4g} epoch{'s' * (length.epochs != 1)}"
    log.info(
        f"{trained:,} parameters (encoder {encoder:,}), {plural(length.steps, 'step')} of "
        f"{plural(job.batch_size, 'sample')}, {epochs}, on {learner.device}"
    )
    if slower := learner.device.slower():
        log.warning(slower)
    if getattr(learner.recipe, "scale_lr", False):
        log.info("learning rate scaled with the batch size: peak %.4g", learner.settings(0).peak)
    needing = {name: node for name, node in job.evaluator.items() if name not in measured.validation}
    unlabelled = [name for name, node in needing.items() if data.validation or (not data.bank and "bank" in node.wants)]
    unheld = [name for name in needing if name not in unlabelled]
    for why, names in (("the dataset has no labels", unlabelled), ("there is no validation split", unheld)):
        if names:
            log.info("not measured while training, as %s: %s", why, ", ".join(names))
    if not job.evaluator:
        log.info("evaluation while training is off: no evaluator is chosen")
    log.info("run folder: %s", run.folder)
    if start:
        log.info("resumed at step %d of %d", start, length.steps)


def describe_data(job: Job, data: Data, samples: Samples) -> str:
    """`shapes: 9,000 training samples (3 x 32 x 32), validation 1,000, test 2,000; 10 classes: circle, ...`"""
    shape = " x ".join(map(str, samples.shape))
    bank = [] if data.bank is None or len(data.bank.x) == len(data.train) else [f"labelled bank {len(data.bank.x):,}"]
    held = [f"{name} {len(part.x):,}" for name in ("validation", "test") if (part := getattr(data, name))]
    parts = ", ".join([f"{plural(len(data.train), 'training sample')} ({shape})", *bank, *held])
    names = ", ".join([*map(printable, data.classes[:SHOWN]), *["..."] * (len(data.classes) > SHOWN)])
    classes = f"; {plural(len(data.classes), 'class')}: {names}" if data.classes else ""
    return f"{job.choices.get('dataset', 'dataset')}: {parts}{classes}"


def hparams(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, str | float | bool]:
    """The run's row in TensorBoard's HPARAMS tab: its choices, some settings, and all that was typed.

    `content` is the resolved config. Every job of a sweep was typed with all that the sweep varies. What is null is
    left out: an empty cell keeps a column of numbers one of numbers.
    """
    typed = {key.lstrip("+~"): value for key, _, value in (each.partition("=") for each in overrides)}
    known = {**dict(paths(content)), **content.get("choices", {})}
    row: dict[str, str | float | bool] = {}
    for key in (*GROUPS, *SETTINGS, *typed):
        value = known.get(key)
        if isinstance(value, Mapping) or (value is None and "@" in key):
            value = typed.get(key)  # a list of evaluators, or a recipe that is mounted
        if value is not None:
            row[key] = value if isinstance(value, bool | int | float | str) else str(value)
    return row


def write_summary(
    folder: Path,
    status: str,
    run: "Trainer | None",
    step: int,
    seconds: float,
    known: Meanings,
    error: str | None,
    changes: Mapping[str, Any] = {},
    is_initialised: bool = False,
) -> dict[str, Any]:
    """Writes summary.json. `known`: meanings of numbers of the attempt before. `changes`: what was changed in the run.

    `is_initialised`: whether the encoder of step 0 is that of `init`, and no random one. Raises OSError.
    """
    measured = run.measurements if run else None
    validation, test = (measured.validation, measured.test) if measured else ({}, {})
    numbers = summarise_numbers(folder, {**known, **(measured.meanings if measured else {})}, step)
    if is_initialised:
        numbers = {"baseline": {}, "initial": numbers.pop("baseline"), **numbers}
    summary = {
        "status": status,  # running, completed, failed, interrupted, or stopped by a collapse
        "step": step,
        "steps": run.length.steps if run else 0,
        "seconds": round(seconds, 2),
        "samples_per_second": round(run.progress.samples_per_second, 1) if run else 0.0,
        "peak_memory_mb": round(run.learner.device.peak_memory_mb(), 1) if run else 0.0,
        **numbers,
        "headlines": [f"{name}/{each.headline}" for name, each in validation.items()],
        "protocols": {name: {"version": each.version} for name, each in {**validation, **test}.items()},
        "health": measured.health.summary() if measured and measured.health else None,
        "error": error or (run.stopped if run else None) or None,
        **changes,
    }
    write_json(folder / SUMMARY, summary)
    return summary


def mark_summary(folder: Path, status: str, error: str | None) -> dict[str, Any]:
    """Writes into summary.json how an attempt ended, and leaves the step and the numbers that are in it.

    For attempts that know neither: they ended before their log was open, or in another process. Raises OSError.
    """
    if not (before := read_json(folder / SUMMARY)):
        return write_summary(folder, status, None, 0, 0.0, {}, error)
    summary = {"step": 0, "steps": 0, **before, "status": status, "error": error}
    write_json(folder / SUMMARY, summary)
    return summary


def print_end(summary: dict[str, Any], folder: Path, console: Console) -> None:
    """The table at the end, and what to type next."""
    status, health, where = summary["status"], summary.get("health") or {}, shlex.quote(str(folder))
    place = f"{status} at step {summary['step']} of {summary['steps']}"
    if status == "interrupted":
        lines = [f"{place}; to go on:", f"  ssl-runner resume {where}"]
    elif status == "stopped":
        again = " on_collapse=warn" if health.get("verdict") == "collapsed" else ""
        lines = [place, summary["error"], "to go on all the same:", f"  ssl-runner resume {where}{again}"]
    elif status == "failed":
        lines = [f"failed; the whole story is in {folder / LOG}"]
    else:
        print_table(summary, console)
        lines = [health["text"]] if health.get("verdict", "healthy") != "healthy" else []
        speed = f"{summary['samples_per_second']:,.0f} samples/s"
        lines += [f"{plural(summary['steps'], 'step')} in {summary['seconds']:.0f} s, {speed}"]
        lines += [f"run folder:   {folder}", f"to see it:    tensorboard --logdir {where}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def print_table(summary: dict[str, Any], console: Console) -> None:
    """The headlines of which more or less is better: of a constant guess, raw features, first encoder, trained, gain
    (above 0 is better), test split. Raw features have a column if they were measured."""
    meanings, final = summary["metrics"], summary["final"]
    before, first = ("initial", "encoder of init") if "initial" in summary else ("baseline", "random encoder")
    raw = summary.get("raw") or {}
    heads = ("measured", "majority class", *(["raw features"] if raw else []), first, "trained", "gain", "test")
    table = Table(*heads, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in (name for name in summary["headlines"] if meanings.get(name, {}).get("better")):
        unit, base, last = meanings[name]["unit"], summary[before].get(name), final.get(name)
        gain = None if base is None or last is None else gain_of(last, base, meanings[name]["better"])
        known = (meanings[name].get("majority"), *([raw.get(name)] if raw else []), base, last)
        shown = [show(each, unit) for each in known]
        shown += [show(gain, unit, sign="+"), show(final.get(f"test/{name}"), unit)]
        table.add_row(name.partition("/")[0], *shown)
    if table.rows:
        console.print(table)


def show(value: float | None, unit: str, sign: str = "") -> str:
    """A share in per cent, another number with four digits; nothing if there is none."""
    if value is None:
        return ""
    return f"{100 * value:{sign}.1f} %" if unit == "share" else f"{value:{sign}.4g}"
