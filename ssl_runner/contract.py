"""What the parts of the runner promise each other. Floor 0: it imports torch and nothing of ours.

A dataset yields unlabelled samples; a pretext task makes inputs and targets out of them and scores an encoder; a
regulariser adds named terms; an evaluator measures the frozen encoder against labels that only it ever sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.duration import Duration


class Batch(NamedTuple):
    """Unlabelled samples. There is no label field: a pretext task cannot read one by accident."""

    x: Tensor  # (B, *shape). Images float32 in [0, 1] (B, C, H, W); waveforms float32 in [-1, 1]; text int64 ids
    index: Tensor  # type: ignore[assignment]  # (B,) int64 row of each sample in the training set: banks, pseudo-labels


@dataclass(frozen=True, slots=True)
class Features:
    """What an encoder makes of a batch of B samples."""

    pooled: Float[Tensor, "b d"]  # what probes, kNN and projection heads read
    tokens: Float[Tensor, "b n d"]  # local features in raster or time order, no class token among them
    grid: tuple[int, ...]  # (h, w) or (t,); its product is n


class Loss(NamedTuple):
    """What a pretext task makes of its views."""

    value: Float[Tensor, ""]  # mean over the batch
    metrics: Mapping[str, Tensor] = {}  # detached scalars for the log, left on the device
    embedding: Tensor | None = None  # (B', D) with its graph, for regularisers on representations


@dataclass(frozen=True)
class Context:
    """Where training stands: a function of (seed, step) alone, so that a resumed run sees the same."""

    step: int
    steps: int
    steps_per_epoch: int
    rng: torch.Generator  # on the training device, seeded from (seed, step, group, micro-batch, rank)
    sweep: Callable[[], Iterator[Batch]]  # the whole training set in row order, unaugmented

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.step / self.steps

    @property
    def epoch(self) -> int:
        return self.step // self.steps_per_epoch

    @property
    def starts_epoch(self) -> bool:
        return self.step % self.steps_per_epoch == 0


class Encoder(nn.Module):
    """Samples to features: the only thing that outlives pretraining.

    Normalisation is its first layer, and mean and std (one number a channel, in units of the samples) are buffers, so
    an exported encoder cannot be fed wrongly.
    """

    dim: int  # width of `pooled` and of each token
    drops_tokens: bool = False  # whether `forward` takes `keep`
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def normalise(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Zero mean and unit variance a channel over the training set."""
        shape = (-1, *(1,) * (x.ndim - 2))
        return (x - self.mean.view(shape)) / self.std.view(shape)

    def forward(self, x: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """`keep`: the tokens that a masked method lets it see, as positions in raster or time order.

        Raises ValueError where `keep` is given to an encoder that cannot drop tokens.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")


class Suspect(NamedTuple):
    """A setting that can let features collapse, as it is set now."""

    cause: str  # the setting with its value, and why it can: "pretext.predictor=false, the target is matched as it is"
    remedy: str  # what to type: "pretext.predictor=true"
    weight: float  # how likely, in (0, 1]; at 1 a collapse is certain


class Pretext(nn.Module):
    """A self-supervised task: it makes its own inputs and targets from unlabelled samples, and scores an encoder.

    A step, in this order:
        before_step(ctx)                                   once
        for each optimizer group:
            views(batch, ctx), then forward(views, group)  once a micro-batch; then the group's optimizer steps
        after_step(ctx)                                    once

    All state that training changes is a parameter, a submodule or a buffer, so `state_dict()` is the whole of it.
    """

    encoder: Encoder

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """The task: augmented inputs and self-made targets, masks, noise.

        ALL randomness is here, drawn from ctx.rng, one draw per sample. It runs without gradient, in float32, outside
        autocast and compile. Image-shaped tensors in it are what TensorBoard shows.
        """
        raise NotImplementedError(f"{type(self).__name__}.views")

    def forward(self, views: tuple, group: str = "main") -> Loss:
        """A pure function of views, parameters and buffers (dropout aside): compiled, autocast, wrapped by DDP.

        It reads no Python number that changes with the step: a schedule is a 0-d buffer set in before_step.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def groups(self) -> Mapping[str, list[tuple[str, nn.Parameter]]]:
        """Named parameters by optimizer, in the order in which the optimizers step."""
        return {"main": [(name, p) for name, p in self.named_parameters() if p.requires_grad]}

    def before_step(self, ctx: Context) -> None:
        """No gradient: schedules, pseudo-labels at the start of an epoch."""

    def after_step(self, ctx: Context) -> None:
        """No gradient: a teacher follows its student, a queue takes its keys."""

    def pictures(self, views: tuple) -> Mapping[str, Float[Tensor, "b c h w"]]:
        """Images in [0, 1] that the method makes (reconstructions, samples), to be shown. No gradient, eval mode."""
        return {}

    def suspects(self) -> Sequence[Suspect]:
        """Which of its own settings, as they are now, can let features collapse. Asked once they have."""
        return ()


class Regulariser(nn.Module):
    """Named terms added to the loss; each is logged under its own name. It has no state that training changes."""

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        """Weighted scalars by name, to be summed and added to `loss.value`. Float32, outside autocast."""
        raise NotImplementedError(f"{type(self).__name__}.forward")


@runtime_checkable
class Rows(Protocol):
    """Samples by row: a tensor is one, and so is anything that decodes on demand. Images are uint8 (N, C, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Int[Tensor, " b"]) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    """Samples beside their labels. Evaluators receive it; a pretext task never does."""

    x: Rows
    y: Int[Tensor, " n"]  # class of each row, from 0
    factors: Mapping[str, Tensor] = field(default_factory=dict)  # (N,) or (N, k) known causes of each sample


@dataclass(frozen=True)
class Data:
    """What a dataset yields once it is read."""

    train: Rows  # what the pretext task learns from; validation and test rows are not among them
    bank: Split | None  # labelled rows that evaluators may fit on: train's own, or a small labelled part beside it
    validation: Split | None  # labelled rows that choices are made on
    test: Split | None  # measured once, when a run is complete
    mean: tuple[float, ...]  # a channel, of the training rows scaled to [0, 1]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""  # hex digest of the rows that were read


@runtime_checkable
class Dataset(Protocol):
    """A source of samples. Its constructor is cheap and reads no sample, so that a config can be checked against it.

    Constructor raises FileNotFoundError where the data is absent and may not be downloaded. A dataset whose splits have
    `factors` names them in an attribute `factors`.
    """

    shape: tuple[int, ...]  # of a sample; (C, H, W) for images
    rows: int  # how many training rows there will be, validation already taken off

    def load(self) -> Data:
        """Reads, downloads or renders. Raises OSError or ValueError with what to do about it."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """A recipe for the optimizer of a parameter group, and its learning rate as a pure function of the step."""

    clip: float | None  # largest global gradient norm

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer: ...

    def rate(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, in [0, steps)."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Frozen encoder and data to named numbers. It keeps no state and leaves the encoder as it found it.

    What only the runtime knows is a constructor parameter of one of these names:

    Args:
        bank: Split, the labelled rows that it may fit on.
        query: Split, the labelled rows that it is measured on. Who asks for none is not measured on the test split.
        validation: Split or None, the rows that choices may be made on; the very object `query` where that is it.
        classes: int.
        train: Rows, the training rows without labels.
        fresh: seed -> Encoder, a randomly initialised encoder of the same architecture, on the CPU.
        folder: Path, for what is no number (plots, lists); made when something is written, never before a call.
    """

    every: Duration
    version: int  # raised when the same settings would give another number
    headline: str  # which of its numbers stands for it in a table

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, float]:
        """`encode` yields the pooled float32 features of rows on the encoder's device, encoded once an evaluation
        however many evaluators ask. The encoder is in eval mode, without gradient. Names are short, as in `top1`."""
        ...
