"""Contract between datasets, pretext tasks, encoders, regularisers, optimizers and evaluators. It needs torch only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.duration import Duration, Length

Kind = Literal["image", "text", "audio"]


class Samples(NamedTuple):
    """What a sample is, known before any is read."""

    kind: Kind
    shape: tuple[int, ...]  # image (C, H, W) | text (L,) | audio (1, T)
    vocabulary: int = 0  # text: ids in [0, vocabulary); id 0 is padding
    rate: int = 0  # audio: samples a second; a trailing run of exact zeros is padding

    def example(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, *shape) noise as a pretext task sees it: for pre-flight, and for the check of an export."""
        if self.kind == "text":
            return torch.randint(1, self.vocabulary, (n, *self.shape), generator=rng)
        noise = torch.rand(n, *self.shape, generator=rng)
        return noise * 2 - 1 if self.kind == "audio" else noise

    def from_rows(self, raw: Tensor) -> Tensor:
        """Stored rows (uint8 images, int16 audio, integer ids) as a pretext task sees them, see `Batch.x`."""
        if self.kind == "text" or raw.is_floating_point():
            return raw.long() if self.kind == "text" else raw
        return raw.float().div_(255 if self.kind == "image" else 32768)


class Batch(NamedTuple):
    """Unlabelled samples. There is no label field: a pretext task cannot read one by accident."""

    x: Tensor  # (B, *shape): images float32 in [0, 1]; audio float32 in [-1, 1]; text int64 ids
    index: Tensor  # type: ignore[assignment]  # (B,) int64 row of each sample in the training set: banks, pseudo-labels


@dataclass(frozen=True, slots=True)
class Features:
    pooled: Float[Tensor, "b d"]  # what probes, kNN and projection heads read
    tokens: Float[Tensor, "b n d"]  # local features in raster or time order, no class token among them
    grid: tuple[int, ...]  # (h, w) or (t,); its product is n
    mask: Bool[Tensor, "b n"] | None = None  # which tokens are real, not padding; None: all
    layers: tuple[Float[Tensor, "b n d"], ...] = ()  # the outputs of the blocks that were asked for


class Loss(NamedTuple):
    value: Float[Tensor, ""]  # mean over the batch
    metrics: Mapping[str, Tensor] = {}  # detached scalars for the log, left on the device
    embedding: Tensor | None = None  # (V B, D) with its graph, view after view, for regularisers on representations
    kept: Mapping[str, Tensor] = {}  # detached rows for after_step: keys of a queue, bank rows, sums of a centre
    samples: int | None = None  # B, which the engine fills in for regularisers


@runtime_checkable
class Rng(Protocol):
    """Random numbers a sample, whatever ranks and micro-batches. In views n is a multiple of the samples at hand."""

    def rand(self, n: int, *shape: int) -> Float[Tensor, "n ..."]: ...  # uniform in [0, 1)
    def randn(self, n: int, *shape: int) -> Float[Tensor, "n ..."]: ...
    def randint(self, high: int, n: int, *shape: int) -> Int[Tensor, "n ..."]: ...  # in {0, ..., high - 1}


@dataclass(frozen=True)
class Context:
    step: int  # all of it is a function of (seed, step)
    length: Length
    rng: Rng  # on the training device, of (seed, step, group or hook) and the place of each sample in the batch
    sweep: Callable[[], Iterator[Batch]]  # the whole training set in row order, unaugmented
    progress = property(lambda self: self.step / self.length.steps)  # the share of the run that is done, in [0, 1]
    epoch = property(lambda self: self.step // self.length.steps_per_epoch)
    starts_epoch = property(lambda self: self.step % self.length.steps_per_epoch == 0)


class Encoder(nn.Module):
    """Samples to features: the only thing that outlives pretraining. Its input layer (pixel normalisation, log-mel,
    token embedding) belongs to it and its statistics are buffers, so an exported encoder cannot be fed wrongly."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image",)  # what it can take
    dim: int  # width of `pooled` and of each token
    in_two_steps: bool = False  # whether it offers embed and encode, and so can drop and hide tokens

    def forward(self, x: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """`keep`: tokens to encode, as positions in raster or time order; ValueError if it cannot drop the others."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def embed(self, x: Tensor) -> Float[Tensor, "b n d"]:
        """Patches, frames or word pieces before positions are added; a method puts its own mask vector into them."""
        raise NotImplementedError(f"{type(self).__name__}.embed")

    def real(self, x: Tensor) -> Bool[Tensor, "b n"] | None: ...  # which tokens are no padding; None: all

    def encode(self, z: Float[Tensor, "b n d"], *, keep: Int[Tensor, "b k"] | None = None, layers: Sequence[int] = (),
               mask: Bool[Tensor, "b n"] | None = None, visible: Bool[Tensor, "*b n n"] | None = None,
    ) -> Features:  # fmt: skip
        """`forward(x)` is `encode(embed(x), mask=real(x))`. `visible`: (query, key) pairs that attend, in all or each;
        a class token sees all. `layers`: blocks whose outputs are wanted, -1 the last."""
        raise NotImplementedError(f"{type(self).__name__}.encode")


class Rate(NamedTuple):
    lr: float = 1.0  # factor on the learning rate of some parameters; at 0 they get no gradient
    decay: float = 1.0  # factor on their weight decay
    constant: bool = False  # the peak learning rate, whatever the schedule


class Suspect(NamedTuple):
    cause: str  # a setting that can let features collapse, as it is now: "pretext.predictor=false, the target is ..."
    remedy: str  # what to type: "pretext.predictor=true"
    weight: float  # how likely, in (0, 1]; at 1 a collapse is certain


class Pretext(nn.Module):
    """A self-supervised task: it makes inputs and targets from unlabelled samples, and scores an encoder on them.
    A step: before_step(ctx); for each optimizer group views(batch, ctx) and forward(views, group) once a micro-batch,
    then its optimizer steps; after_step(ctx, kept) with the kept rows of all micro-batches in the order of the batch.
    All state that training changes is a parameter, a submodule or a buffer, so `state_dict()` is the whole of it."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image",)  # what it can learn from; anything else is refused with a remedy
    encoder: Encoder

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Inputs and targets, masks, noise. ALL randomness is here, drawn from ctx.rng, one draw per sample, without
        gradient, in float32. Several sizes are several tensors. Image-shaped ones are what TensorBoard shows."""
        raise NotImplementedError(f"{type(self).__name__}.views")

    def forward(self, views: tuple, group: str = "main") -> Loss:
        """A pure function of views, parameters and buffers (dropout aside): compiled, autocast, wrapped by DDP.
        It reads no Python number that changes with the step: a schedule is a 0-d buffer set in before_step."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def groups(self) -> Mapping[str, list[tuple[str, nn.Parameter]]]:
        """Named parameters by optimizer, in the order in which the optimizers step."""
        return {"main": [(name, p) for name, p in self.named_parameters() if p.requires_grad]}

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        """Factors by parameter-name prefix, the longest that fits; the prefixes are the same at every step."""
        return {}

    def before_step(self, ctx: Context) -> None: ...  # both without gradient: schedules, pseudo-labels of an epoch
    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None: ...  # a teacher follows, a queue takes keys

    def trained(self) -> Encoder:
        """The encoder that is measured and saved: the teacher's if the paper measures the teacher."""
        return self.encoder

    def pictures(self, views: tuple) -> Mapping[str, Tensor]:
        """Images in [0, 1] that the method makes, or of texts ids (b, l), to be shown. No gradient, eval mode."""
        return {}

    def suspects(self) -> Sequence[Suspect]:
        """Which of its own settings, as they are now, can let features collapse. Asked once they have."""
        return ()


class Regulariser(nn.Module):
    """Named terms added to the loss: weighted float32 scalars, each logged under its name. It has no training state."""

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        raise NotImplementedError(f"{type(self).__name__}.forward")


class Settings(NamedTuple):
    lr: float
    weight_decay: float
    peak: float  # the largest learning rate of the schedule


@runtime_checkable
class Optimizer(Protocol):
    """A recipe for the optimizer of a parameter group, and its settings as a pure function of the step."""

    clip: float | None  # largest global gradient norm
    clip_each: float | None  # largest gradient norm of each tensor

    def build(self, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer: ...
    def settings(self, step: int, length: Length) -> Settings: ...


@runtime_checkable
class Rows(Protocol):  # samples by row: a tensor, or whatever decodes on demand; images are uint8 (N, C, H, W)
    def __len__(self) -> int: ...
    def __getitem__(self, index: Int[Tensor, " b"]) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    x: Rows  # samples beside their labels: evaluators receive them, a pretext task never does
    y: Int[Tensor, " n"] | None = None  # class of each row, from 0
    targets: Mapping[str, Tensor] = field(default_factory=dict)  # int: classes; float: numbers; bool (n, k): labels
    tokens: Mapping[str, Tensor] = field(default_factory=dict)  # int (n, t) from 0: classes over time, -1 where none


@dataclass(frozen=True)
class Data:
    train: Rows  # what the pretext task learns from; validation and test rows are not among them
    bank: Split | None  # labelled rows that evaluators may fit on: train's own, or a small labelled part beside it
    validation: Split | None  # rows that choices are made on, labelled or not
    test: Split | None  # measured once, when a run is complete
    mean: tuple[float, ...] = ()  # a channel, of the training rows as samples; empty for text
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    fingerprint: str = ""  # hex digest of the rows that were read, and of the assets
    stored: Rows | None = None  # train in more pixels than samples.shape, for views to be cut of; None: as train
    assets: Mapping[str, bytes] = field(default_factory=dict)  # files kept with the encoder, such as a tokenizer


@runtime_checkable
class Dataset(Protocol):
    """A source of samples. Its constructor is cheap, reads no sample, and raises FileNotFoundError if there is no data.
    If there: `targets` and `tokens` name theirs; `read_as(samples, assets)` reads as an encoder's samples were."""

    samples: Samples
    rows: int  # how many training rows there will be, validation already taken off

    def load(self) -> Data: ...  # reads, downloads or renders; OSError and ValueError say what to do about it


class Metric(NamedTuple):
    value: float
    better: Literal["larger", "smaller"] | None = "larger"  # None: it describes, and neither is better
    unit: Literal["share", "number"] = "share"  # a share is shown in per cent
    detail: bool = False  # it is logged, and left out of the line while training
    majority: float | None = None  # of an accuracy: the largest class's share of the rows, a constant guess's accuracy
    classes: Mapping[str, float | None] = {}  # the number of each class by its name; None: there are no rows of it
    confusion: Sequence[Sequence[int]] = ()  # of an accuracy: rows by class, and by predicted class in columns


@runtime_checkable
class Evaluator(Protocol):
    """Frozen encoder and data to named numbers. It keeps no state and leaves the encoder as it found it. What only the
    runtime knows is a constructor parameter: bank and query, Splits to fit on and to be measured on (without a query,
    not on the test split); validation, one to choose on, or `query` itself, or None; train: Rows; sample: Samples;
    classes: int; class_names; fresh: seed -> a random Encoder like it; folder: Path for plots."""

    every: Duration
    version: int  # raised when the same settings would give another number
    headline: str  # which of its numbers stands for it in a table; `numbers`, if there: patterns of all

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        """`encode`: pooled float32 features of rows, encoded once for all, by the encoder in eval mode."""
