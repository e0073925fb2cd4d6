"""Weights & Biases and MLflow beside TensorBoard (`loggers=[wandb,mlflow]`), each imported only if it is chosen.

Where they write is what their own variables say: WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME. By default nothing leaves the machine: wandb writes offline, into the run folder, and mlflow
into the folder mlruns here. A run that goes on is written anew from its first row, as for TensorBoard.
"""

import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from ssl_runner.errors import one_line
from ssl_runner.run_folder.atomic import digest

Name = Literal["wandb", "mlflow"]
PROJECT = "ssl_runner"  # of W&B, and experiment of MLflow
FOLDER = "ssl_runner.folder"  # the tag by which an earlier attempt at a run is known in MLflow
AT_ONCE = 100  # settings that MLflow takes at once

log = logging.getLogger("ssl_runner")


class Logger(Protocol):
    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...
    def image(self, step: int, name: str, x: Float[Tensor, "c h w"]) -> None: ...
    def close(self, status: str | None) -> str: ...  # what to type to see it


class WandB:
    """A run of Weights & Biases, whose id is that of the folder."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]):
        import wandb

        self.wandb, mode = wandb, os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            shutil.rmtree(folder / "wandb", ignore_errors=True)
        quiet = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
        project, key = os.environ.get("WANDB_PROJECT", PROJECT), digest(str(folder.absolute()))
        how: dict[str, Any] = {"mode": mode, "dir": str(folder), "resume": None if mode == "offline" else "allow"}
        self.run = wandb.init(project=project, id=key, name=name, config=dict(settings), settings=quiet, **how)
        self.first = self.run.step  # what the server has already of a run that goes on
        self.place = folder / "wandb"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.first:
            self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, x: Float[Tensor, "c h w"]) -> None:
        if step >= self.first:
            self.run.log({name: self.wandb.Image(x)}, step=step)

    def close(self, status: str | None) -> str:
        self.run.finish(exit_code=0 if status in ("completed", None) else 1)
        return f"wandb sync {self.place}/offline-run-*" if self.run.settings.mode == "offline" else str(self.run.url)


class MLflow:
    """A run of MLflow, with the folder as a tag; those of earlier attempts in the folder are deleted."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.metric, self.place = Metric, os.environ.get("MLFLOW_TRACKING_URI", Path("mlruns").absolute().as_uri())
        self.client = MlflowClient(tracking_uri=self.place)
        experiment, tag = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), str(folder.absolute())
        known = self.client.get_experiment_by_name(experiment)
        key = known.experiment_id if known else self.client.create_experiment(experiment)
        for old in [each for each in self.runs_of(key) if each.data.tags.get(FOLDER) == tag] if known else ():
            self.client.delete_run(old.info.run_id)
        self.id = self.client.create_run(key, run_name=name, tags={FOLDER: tag}).info.run_id
        items = [Param(key, str(value)) for key, value in settings.items()]
        for first in range(0, len(items), AT_ONCE):
            self.client.log_batch(self.id, params=items[first : first + AT_ONCE])

    def runs_of(self, experiment: str) -> Iterator[Any]:
        """All of them: a search gives 1,000, and where to go on."""
        token = None
        while (page := self.client.search_runs([experiment], page_token=token)).token:
            yield from page
            token = page.token
        yield from page

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[self.metric(name, each, now, step) for name, each in values.items()])

    def image(self, step: int, name: str, x: Float[Tensor, "c h w"]) -> None:
        pixels = (255 * x.permute(1, 2, 0)).round().byte().numpy()
        self.client.log_image(self.id, pixels, f"{name}/{step:07d}.png")

    def close(self, status: str | None) -> str:
        words = {"completed": "FINISHED", "interrupted": "KILLED", "stopped": "KILLED"}
        self.client.set_terminated(self.id, words.get(status or "", "FAILED"))
        return f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {self.place}"


KINDS: dict[Name, Callable[[Path, str, Mapping[str, Any]], Logger]] = {"wandb": WandB, "mlflow": MLflow}


class Loggers:
    """Those that were chosen. One that fails is left out from there on: a server that is away ends no run."""

    def __init__(self, chosen: Iterable[Name] = (), folder: Path = Path(), settings: Mapping[str, Any] = {}):
        self.open: dict[str, Logger] = {}
        for name in dict.fromkeys(chosen):
            try:
                self.open[name] = KINDS[name](folder, folder.absolute().name, settings)
            except Exception as error:  # a library of its own errors
                self.leave_out(name, error)

    def tell(self, act: Callable[[Logger], object]) -> None:
        for name, each in [*self.open.items()]:
            try:
                act(each)
            except Exception as error:
                del self.open[name]
                self.leave_out(name, error)

    def close(self, status: str | None) -> None:
        self.tell(lambda each: log.info("to see it:    %s", each.close(status)))

    def leave_out(self, name: str, error: Exception) -> None:
        reason = one_line(error)[:300]
        log.warning("%s: %s: %s; it logs nothing from here on", name, type(error).__name__, reason)


def check_loggers(chosen: Iterable[Name]) -> list[str]:
    """A line for each that is not installed."""
    absent = [name for name in chosen if importlib.util.find_spec(name) is None]
    return [f"loggers: {name} is not installed; type pip install 'ssl-runner[{name}]'" for name in absent]
