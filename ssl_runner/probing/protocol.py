"""Protocols on labelled rows: settings, requirements and scores that several evaluators have in common."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Interval, MinLen
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Metric, Rows, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.probing.class_scores import score_classes
from ssl_runner.probing.knn_vote import Neighbours
from ssl_runner.probing.linear import Linear, fit_classifier, mean_average_precision, r_squared

Encode = Callable[[Rows], Float[Tensor, "n d"]]  # rows to pooled features, on the encoder's device
Seed = Annotated[int, Ge(0)]
Part = Annotated[float, Interval(gt=0, lt=1)]
Penalties = Annotated[tuple[Positive, ...], MinLen(1)]
L2 = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Unlabelled(ValueError):
    """An evaluator needs a class of rows, and there is none."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An evaluator on labelled rows; `target` None is their class.

    Raises ValueError if the query is empty, or its rows have no such target; FloatingPointError from the call, if a
    feature is not finite.
    """

    headline = "top1"
    target = None

    every: Duration
    query: Split  # rows that it is measured on
    classes: Count

    name = property(lambda self: type(self).__module__.rpartition(".")[2])  # as in evaluator=NAME

    def __post_init__(self) -> None:
        splits = {name: getattr(self, name) for name in ("bank", "query") if hasattr(self, name)}
        require_labelled(self.name, self.target, **splits)


@dataclass(frozen=True, kw_only=True)
class Fitted(Labelled):
    """An evaluator that is fitted on labelled rows. Raises ValueError as well if the bank is empty or has no target."""

    bank: Split  # rows that it is fitted on

    def encode_both(self, encode: Encode) -> tuple[Float[Tensor, "n d"], Float[Tensor, "q d"]]:
        """Features of bank and query. Raises FloatingPointError if one is not finite."""
        bank, query = encode(self.bank.x), encode(self.query.x)
        require_finite(bank, query)
        return bank, query


@dataclass(frozen=True, kw_only=True)
class Targeted(Fitted):
    """An evaluator that predicts the class or a further target. The call raises ValueError if it does not vary."""

    target: str | None = None  # a further target of the dataset; None is the class
    class_names: tuple[str, ...]

    known = property(lambda self: self.bank.y if self.target is None else self.bank.targets[self.target])
    truth = property(lambda self: self.query.y if self.target is None else self.query.targets[self.target])

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = "r2" if self.known.is_floating_point() else "map" if self.known.dtype == torch.bool else "top1"
        object.__setattr__(self, "headline", kind)

    @property
    def target_classes(self) -> int:
        """How many classes the target has, if it is one of classes."""
        return self.classes if self.target is None else 1 + int(max(self.known.max(), self.truth.max()))

    def score(self, model: Linear | Neighbours, query: Float[Tensor, "q d"]) -> dict[str, Metric]:
        """The headline; of classes see probing.class_scores.score_classes."""
        if self.headline == "top1":
            names = self.class_names if self.target is None else ()
            return score_classes(*model.rank_classes(query), self.truth, self.target_classes, names)
        predicted, truth = model.scores(query).cpu().double(), self.truth.cpu().reshape(len(query), -1)
        if truth.dtype == torch.bool:
            metric = Metric(mean_average_precision(predicted, truth))
        else:
            metric = Metric(r_squared(predicted, truth.double()), "larger", "number")
        if math.isnan(metric.value):
            raise ValueError("the target does not vary among the rows of the query; give more rows or another target")
        return {self.headline: metric}


@dataclass(frozen=True, kw_only=True)
class Classifiers(Fitted):
    """An evaluator of images by kNN and by the linear probe.

    Raises ValueError as well if k is larger than the bank, or if samples are not images of 1 or 3 channels.
    """

    k: Count = 20  # this and the next: see evaluator.knn.KNN
    temperature: Positive = 0.07
    l2: Penalties = L2  # this and the next: see evaluator.probe.Probe
    held_out: Part = 0.2
    sample: Samples
    folder: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, channels = self.sample.kind, self.sample.shape[0]
        if kind != "image" or channels not in (1, 3):
            given = f"the dataset has {f'images of {channels} channels' if kind == 'image' else kind}"
            raise ValueError(f"{self.name} takes images of 1 or 3 channels, and {given}; leave {self.name} out")
        require_neighbours(self.name, self.k, self.bank)

    def fit(self, bank: Float[Tensor, "n d"]) -> dict[str, Linear | Neighbours]:
        """kNN and the probe, on the bank's features."""
        known = (bank, self.bank.y, self.classes)
        knn = Neighbours(*known, self.k, self.temperature)
        return {"knn": knn, "probe": fit_classifier(*known, l2=self.l2, held_out=self.held_out)}


def require_labelled(who: str, target: str | None, **splits: Split) -> None:
    """Raises ValueError if a split, named by its keyword, holds no row, or none with the target; None is the class.

    That there is no class is an Unlabelled.
    """
    for name, split in splits.items():
        possible = ", ".join(split.targets)
        if target is None and split.y is None:
            raise Unlabelled(f"target: the rows have no class; possible are {possible or 'none'}, or leave {who} out")
        if target is not None and target not in split.targets:
            instead = f"possible are {possible}, and" if possible else "the dataset knows no further targets; type"
            raise ValueError(f"target: given {target}; {instead} null for the class, or leave {who} out")
        if len(split.x) == 0:
            raise ValueError(f"the {name} holds no labelled sample; give it some or leave {who} out")


def require_neighbours(who: str, k: int, bank: Split) -> None:
    """Raises ValueError if a bank has fewer than k samples to vote."""
    if k > len(bank.x):
        raise ValueError(f"k is {k} and the bank holds {len(bank.x)} samples; use evaluator.{who}.k={len(bank.x)}")


def require_finite(*features: Float[Tensor, "..."]) -> None:
    """Raises FloatingPointError if a feature is infinite or not a number, or the length of a row is: from 1e19 on, to
    which float32 has no square, all cosines would be 0 and any neighbours the nearest.
    """
    if not all(bool(torch.linalg.vector_norm(each, dim=-1).isfinite().all()) for each in features):
        raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
