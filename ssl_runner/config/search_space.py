"""Search spaces and settings in Hydra's override syntax: `a=x,y`, `a=range(1,9)`, `a=tag(log,interval(1e-4,1))`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException

EXAMPLE = "a search needs choices, a range or an interval, as in a=x,y or a=interval(0,1)"


@dataclass(frozen=True)
class Assignment:
    """A word `key=value`. `adds`: it began with +, and the key may be new."""

    key: str
    value: Any
    adds: bool


@dataclass(frozen=True)
class Axis:
    """A searched key: one of `choices`, or, without any, a number from `low` to `high`, both included."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None  # None: any number between
    log: bool = False

    @property
    def examples(self) -> list[str]:
        """Overrides with every choice, or with both ends."""
        return [f"{self.key}={each}" for each in dict.fromkeys(self.choices or (self.low, self.high))]


def read_assignments(words: Iterable[str]) -> tuple[list[Assignment], list[str]]:
    """The assignments, and a line for each word that is none."""
    assignments, problems = [], []
    for word in words:
        override = _parse(word)
        if isinstance(override, str):
            problems.append(f"{word}: cannot be read as key=value ({override})")
        elif override.is_delete() or override.is_sweep_override():
            problems.append(f"{word}: a sweep has one value of it; type key=value")
        else:
            adds = override.is_add() or override.is_force_add()
            assignments.append(Assignment(override.key_or_group, override.value(), adds))
    return assignments, problems


def is_searched(word: str) -> bool:
    """Whether a word has more than one value."""
    override = _parse(word)
    return not isinstance(override, str) and override.is_sweep_override()


def read_axes(words: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """What is searched, and a line for each word that cannot be."""
    axes = {word: _axis(word) for word in words}
    return [each for each in axes.values() if each], [f"{word}: {EXAMPLE}" for word, each in axes.items() if not each]


def _axis(word: str) -> Axis | None:
    override = _parse(word)
    assert not isinstance(override, str)
    key, value = str(override.get_key_element()), override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return Axis(key, low=value.start, high=value.end, log="log" in value.tags)
    if isinstance(value, RangeSweep) and (numbers := [*value.range()]):  # in Hydra a range ends before its end
        return Axis(key, low=min(numbers), high=max(numbers), step=abs(value.step))
    if not isinstance(value, ChoiceSweep):
        return None
    choices: list[Any] = list(override.sweep_iterator(Transformer.encode))
    return Axis(key, tuple(sorted(choices, key=str) if value.shuffle else choices))


def _parse(word: str) -> Override | str:
    """The override, or why it is none."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        return " ".join(str(error).split())
