"""A job carried out in a run folder, from its data to its summary."""

import json
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import save as to_safetensors

from ssl_runner import config
from ssl_runner.contract import Data, Dataset
from ssl_runner.engine import folder as folders
from ssl_runner.engine.checkpoint import write, write_json
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.log import journal
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.summary import summarise
from ssl_runner.engine.trainer import Diverged, Trainer
from ssl_runner.job import Job, durations, evaluators, trainer
from ssl_runner.job import read as read_job
from ssl_runner.report import HPARAM_METRICS, conclude, hparams, introduce

log = logging.getLogger("ssl_runner")

DONE, FAILED, REFUSED = 0, 1, 2  # exit statuses; that of an interrupted run is 128 + the signal, as a shell has it


class Refused(Exception):
    """The job cannot begin; nothing was written. One line for each reason."""


def begin(
    job: Job, content: dict[str, Any], overrides: Sequence[str], claim: Callable[[], Path], console: Console
) -> int:
    """Runs a job in the new folder that `claim` makes, once its data is there. Returns the exit status.

    Raises Refused where the data cannot be had or the folder cannot be made.
    """
    with journal(console) as book, ExitStack() as stack:
        dataset, data = load(job)
        try:
            folder = claim()
            stack.enter_context(folders.locked(folder))
            write(folder / "config.yaml", config.dump(content).encode())
            write(folder / "overrides.yaml", config.dump(list(overrides)).encode())
        except (folders.Occupied, OSError) as error:
            raise Refused(f"run folder: {error}") from None
        book.into(folder)
        return carry_out(job, content, overrides, dataset, data, folder, console)


def resume(folder: Path, console: Console) -> int:
    """Goes on with the run of a folder, from its newest readable checkpoint, or from the start where there is none.

    Raises Refused where the folder holds no run, or a running one, or one whose config this version does not accept.
    """
    if not (folder / "config.yaml").is_file():
        raise Refused(f"{folder} holds no run: there is no config.yaml in it")
    try:
        content = config.read(folder / "config.yaml")
        overrides = config.read_list(folder / "overrides.yaml")
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None
    job, problems = read_job(content)
    if job is None or problems:
        raise Refused("\n".join(problems))
    with journal(console) as book, ExitStack() as stack:
        try:
            stack.enter_context(folders.locked(folder))
        except (folders.Occupied, OSError) as error:
            raise Refused(str(error)) from None
        before = read_json(folder / "summary.json")
        if before.get("status") == "completed":
            console.print(f"{folder} is completed already: {before['steps']} steps", highlight=False, soft_wrap=True)
            return DONE
        dataset, data = load(job)
        book.into(folder)
        changed = differences(read_json(folder / "environment.json"), data)
        if changed:
            log.warning("not the same as when the run began, so the result may differ: %s", "; ".join(changed))
        return carry_out(job, content, overrides, dataset, data, folder, console)


def load(job: Job) -> tuple[Dataset, Data]:
    """Reads the data and tries the evaluators on it. Raises Refused."""
    dataset = job.dataset.build()
    try:
        data = dataset.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"dataset: {error}") from None
    rows = len(data.train)  # fewer than the dataset counted on where files turned out to be broken
    if job.batch_size > rows:
        raise Refused(f"batch_size: given {job.batch_size}, and the dataset has {rows} training rows")
    if problems := durations(job, rows // job.batch_size):
        raise Refused("\n".join(problems))
    try:
        evaluators(job, data)
    except ValueError as error:
        raise Refused(f"evaluator: {error}") from None
    return dataset, data


def carry_out(
    job: Job,
    content: dict[str, Any],
    overrides: Sequence[str],
    dataset: Dataset,
    data: Data,
    folder: Path,
    console: Console,
) -> int:
    provenance = {"config": content, "versions": folders.versions(), "seed": job.seed, "length": str(job.length)}
    run = trainer(job, dataset, data, folder, console, provenance)
    if not (folder / "environment.json").exists():
        folders.describe(folder, device=str(run.learner.device), fingerprint=data.fingerprint)
    start = run.restore()
    introduce(run, job, data, start)
    logbook = Logbook(folder, start)
    logbook.begin(hparams(job, content, overrides), HPARAM_METRICS)
    logbook.text("config", f"```yaml\n{config.dump(content)}\n```")
    error: str | None = None
    step = start
    with Interrupt() as interrupt:

        def record(status: str) -> dict[str, Any]:
            summary = summarise(
                status,
                logbook,
                list(job.evaluator),
                steps=run.schedule.steps,
                step=step,
                images_per_second=run.progress.images_per_second,
                peak_memory_mb=run.learner.device.peak_memory_mb(),
                error=error,
            )
            write_json(folder / "summary.json", summary)
            return summary

        try:
            record("running")
            with run.progress:
                step = run.fit(start, logbook, interrupt)
            export(run, dataset, data, content, folder)
            status = "completed" if step == run.schedule.steps else "interrupted"
        except Diverged as reason:
            status, error, step = "failed", str(reason), run.checked
            log.error("%s", reason)
        except KeyboardInterrupt:
            status, step, interrupt.signal = "interrupted", run.checked, signal.SIGINT
        except Exception as reason:  # whatever went wrong is in the log and in the summary, and the status says so
            status, error, step = "failed", f"{type(reason).__name__}: {reason}", run.checked
            log.exception("the run failed: %s", reason)
        try:
            logbook.close()
            summary = record(status)
        except OSError as reason:
            log.error("the summary could not be written: %s", reason)
            return FAILED
        finally:
            run.learner.loader.close()
    conclude(summary, folder, console)
    return DONE if status == "completed" else FAILED if status == "failed" else 128 + int(interrupt.signal or 2)


def export(run: Trainer, dataset: Dataset, data: Data, content: dict[str, Any], folder: Path) -> None:
    """The encoder, as weights beside what builds it."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in run.encoder.state_dict().items()}
    write(folder / "encoder.safetensors", to_safetensors(state))
    recipe = {**content["model"], "shape": list(dataset.shape), "mean": list(data.mean), "std": list(data.std)}
    write(folder / "encoder.yaml", config.dump(recipe).encode())


def differences(before: dict[str, Any], data: Data) -> list[str]:
    """What a resumed run finds changed since it began."""
    now = {**folders.versions(), "dataset": data.fingerprint}
    then = {**before.get("versions", {}), "dataset": before.get("dataset")}
    return [f"{name} was {then[name]}, is {value}" for name, value in now.items() if then.get(name, value) != value]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where it is absent or torn."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
