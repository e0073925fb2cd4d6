"""Promises of a run as functions that compare trainers: bit-exact resume, and labels that never reach training."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from ssl_runner.contract import Data, Split
from ssl_runner.engine.logbook import Logbook

if TYPE_CHECKING:
    from ssl_runner.engine.trainer import Trainer

Make = Callable[[str], "Trainer"]  # a trainer in the folder of this name


class After:
    """An interrupt that comes once the loop has turned n times."""

    def __init__(self, turns: float):
        self.turns = turns

    @property
    def signal(self) -> int | None:
        self.turns -= 1
        return signal.SIGINT if self.turns < 0 else None

    @signal.setter  # of the property
    def signal(self, agreed: int) -> None:
        assert agreed == signal.SIGINT


def fit(trainer: "Trainer", turns: float = float("inf")) -> "Trainer":
    """Trains from the folder's newest checkpoint, for so many turns of the loop; its rows are in trainer.logbook."""
    start = trainer.restore()
    logbook = Logbook(trainer.folder, start)
    trainer.fit(start, logbook, After(turns))  # type: ignore[arg-type]
    logbook.close()
    trainer.learner.loader.close()
    return trainer


def state_values(run: "Trainer") -> Iterator[tuple[str, Any]]:
    """Every value of a run's state, by its path; tensors by their bits."""
    for path, x in tree_flatten_with_path(run.learner.state())[0]:
        yield keystr(path), (x.dtype, x.shape, x.numpy().tobytes()) if isinstance(x, Tensor) else x


def resume_differences(make_whole: Make, make_part: Make, stops: Sequence[Sequence[int]]) -> list[str]:
    """Paths of the states in which a run that is evaluated, stopped and resumed differs from one that is not.

    `stops`: for each comparison, the turns of the loop after which each attempt is stopped.
    """
    whole, different = {*state_values(fit(make_whole("whole")))}, []
    for each in stops:
        for turns in (*each, float("inf")):
            parts = fit(make_part(f"parts{each}"), turns)
        different += [f"stopped after {each}: {path}" for path, _ in whole ^ {*state_values(parts)}]
    return different


def trained_bits(run: "Trainer") -> dict[str, bytes]:
    """Weights and buffers after training."""
    return {name: each.cpu().numpy().tobytes() for name, each in fit(run).learner.pretext.state_dict().items()}


def relabelled(data: Data) -> Data:
    """Other labels and other targets everywhere; the samples are the same."""
    classes = max(1, len(data.classes))

    def change(split: Split) -> Split:
        y = None if split.y is None else (split.y + 1 + split.y % 3) % classes
        targets = {key: other_target(each) for key, each in split.targets.items()}
        return replace(split, y=y, targets=targets, tokens={key: each.flip(1) for key, each in split.tokens.items()})

    return changed_splits(data, ("bank", "validation", "test"), change)


def other_target(target: Tensor) -> Tensor:
    return ~target if target.dtype == torch.bool else -target.float()


def repainted(data: Data) -> Data:
    """Other samples to validate and to test on; the training rows are the same."""
    return changed_splits(data, ("validation", "test"), lambda split: replace(split, x=other_rows(split)))


def other_rows(split: Split) -> Tensor:
    """Images and audio reversed in value, text in time."""
    x = split.x[torch.arange(len(split.x))]
    if x.dtype == torch.uint8:
        return 255 - x
    return 1 - x if x.is_floating_point() else x.flip(-1)


def changed_splits(data: Data, names: Sequence[str], change: Callable[[Split], Split]) -> Data:
    parts: Mapping[str, Split | None] = {name: getattr(data, name) for name in names}
    others: dict[str, Any] = {name: change(part) for name, part in parts.items() if part is not None}
    return replace(data, **others)
