"""Keys of a job's config, and by key the arguments that the runner itself hands to the constructors."""

import os
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from ssl_runner.config.node import Node
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Optimizer, Pretext, Regulariser, Samples
from ssl_runner.device.placement import Placement
from ssl_runner.device.torchrun import group_size
from ssl_runner.duration import Duration
from ssl_runner.engine.loggers import Name

RUNTIME = {
    "model": ("samples", "shape", "mean", "std", "train"),
    "pretext": ("encoder", "samples", "shape", "rows", "assets"),
    "optimizer": ("batch_size",),
    "evaluator": (
        *("bank", "query", "validation", "classes", "class_names", "train", "sample", "fresh", "folder"),
        *("score", "tokenise", "decode"),
    ),
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
    loggers: tuple[Name, ...] = ()  # beside TensorBoard
    init: str | dict[str, str] | None = None  # encoder to begin from; as it is recorded, its path and its digest
    name: str | None = None  # of the run, for people
    tags: str | tuple[str, ...] = ()
    notes: str | None = None
    choices: dict[str, str] = field(default_factory=dict)  # the name chosen in each group, for folders and tables

    def build_encoder(self, samples: Samples, data: Data | None = None) -> Encoder:
        """The encoder with random weights. Without data its normalisation is neutral: to be tried, not trained."""
        channels = 0 if samples.kind == "text" else samples.shape[0]
        neutral = (0.5,) * channels, (0.25,) * channels, None
        mean, std, train = neutral if data is None else (data.mean, data.std, data.train)
        return self.model.build(samples=samples, shape=samples.shape, mean=mean, std=std, train=train)


def processes_of(device: Placement) -> int:
    """How many will share a batch: as many as were started together, or else as the config says."""
    started = group_size(os.environ)
    return started if started > 1 else device.processes
