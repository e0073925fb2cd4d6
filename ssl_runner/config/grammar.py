"""Hydra's grammar of overrides, `key=value` and sweeps, by its public parser. Plain values come out, and back in."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Quote, QuotedString, RangeSweep, Transformer
from hydra.errors import HydraException

from ssl_runner.errors import one_line

KEY = re.compile(r"(\+{0,2})([a-z_$][\w$/@.:-]*)=(.*)", re.ASCII | re.DOTALL | re.IGNORECASE)
MOST = 100_000  # values of a sweep
EXAMPLE = "a search needs choices, a range or an interval, as in a=x,y or a=interval(0,1)"


@dataclass(frozen=True)
class Override:
    """A word of the command line that changes a config: `key=value`, `+key=value`, `++key=value`, `~key`."""

    text: str  # as typed
    key: str  # of a setting, or the name of a group
    mount: str | None  # where a choice of the group is put, if not at the group's own place
    action: str  # CHANGE, ADD, FORCE_ADD, DEL
    value: Any = None
    values: tuple[str, ...] = ()  # of a sweep: an override each; none of an interval
    is_sweep: bool = False
    raw: str | None = None  # the value as typed
    texts: tuple[str, ...] = ()  # in the place of `values` if the key takes text: what is no text to Hydra as typed
    error: str | None = None  # why Hydra's grammar cannot read the value


@dataclass(frozen=True)
class Axis:
    """A searched key: one of `choices`, or, without any, a number from `low` to `high`, both included."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None  # None: any number between
    log: bool = False


def parse_override(text: str, groups: Mapping[str, list[str]] = {}) -> Override:
    """`groups`: the choices that `group=glob(*)` may mean. Raises ValueError in one line if it is no key=value.

    What Hydra's grammar cannot read has an `error`; with commas and without brackets it is a sweep all the same.
    """
    loader: Any = SimpleNamespace(get_group_options=lambda group, results_filter=None: groups.get(group, []))
    try:
        parsed = OverridesParser.create().parse_override(text)
        parsed.config_loader = loader
        words = [*islice(parsed.sweep_string_iterator(), MOST + 1)] if parsed.is_discrete_sweep() else []
        if len(words) > MOST:
            raise ValueError(f"it gives more than {MOST:,} values")
    except (HydraException, ValueError, RecursionError) as error:
        return unread(text, one_line(error)[:300])
    sweep, raw, start = parsed.value(), text.partition("=")[2] if "=" in text else None, parsed.get_key_element()
    texts, value = words, None if parsed.is_sweep_override() else sweep
    if isinstance(sweep, ChoiceSweep) and sweep.simple_form:
        parts = [each.strip() for each in str(raw).split(",")]  # unless a comma stands within quotes
        pairs = zip(parts, sweep.list, words, strict=False) if len(parts) == len(words) else ()
        texts = [word if isinstance(each, str | QuotedString) else part for part, each, word in pairs] or words
    values, typed = (tuple(f"{start}={word}" for word in dict.fromkeys(each)) for each in (words, texts))
    key, mount, action = parsed.key_or_group, parsed.package, parsed.type.name
    return Override(text, key, mount, action, value, values, parsed.is_sweep_override(), raw, typed)


def unread(text: str, why: str) -> Override:
    """An override that Hydra's grammar cannot read. Raises ValueError if it is no key=value."""
    line = f"{text if len(text) <= 80 else f'{text[:77]}...'}: cannot be read as key=value ({why})"
    if not (match := KEY.fullmatch(text)):
        raise ValueError(line)
    signs, key, raw = match.groups()
    words = raw.split(",") if "," in raw and not re.search(r"""[()\[\]{}'"]""", raw) else ()
    values, action = tuple(f"{signs}{key}={word.strip()}" for word in words), ("CHANGE", "ADD", "FORCE_ADD")[len(signs)]
    return Override(text, key, None, action, None, values, bool(values), raw, values, line)


def read_overrides(words: Iterable[str], groups: Mapping[str, list[str]] = {}) -> tuple[list[Override], list[str]]:
    """The words that are overrides, and a line for each that is none."""
    overrides, problems = [], []
    for word in words:
        try:
            overrides.append(parse_override(word, groups))
        except ValueError as error:
            problems.append(str(error))
    return overrides, problems


def is_searched(word: str) -> bool:
    """Whether a word has more than one value."""
    return any(each.is_sweep for each in read_overrides([word])[0])


def read_axes(words: Iterable[str]) -> tuple[list[Axis], list[str]]:
    """What is searched, and a line for each word that cannot be."""
    axes = {word: parse_axis(word) for word in words}
    return [each for each in axes.values() if each], [f"{word}: {EXAMPLE}" for word, each in axes.items() if not each]


def parse_axis(text: str) -> Axis | None:
    """What a word searches: `a=x,y`, `a=range(1,9)`, `a=tag(log,interval(1e-4,1))`. None for a glob, or nothing."""
    if (read := parse_override(text)).error:
        return Axis(read.key, tuple(each.partition("=")[2] for each in read.values)) if read.is_sweep else None
    override = OverridesParser.create().parse_override(text)
    key, value = str(override.get_key_element()), override.value()
    if isinstance(value, IntervalSweep):
        return Axis(key, low=value.start or 0, high=value.end or 0, log="log" in value.tags)
    if isinstance(value, RangeSweep) and (numbers := [*value.range()]):  # in Hydra a range ends before its end
        return Axis(key, low=min(numbers), high=max(numbers), step=abs(value.step))
    if not isinstance(value, ChoiceSweep):
        return None
    choices: list[Any] = list(override.sweep_iterator(Transformer.encode))
    return Axis(key, tuple(sorted(choices, key=str) if value.shuffle else choices))


def examples(axes: Sequence[Axis]) -> list[list[str]]:
    """Overrides with each choice and each end of what is searched, to be checked before anything is run."""
    values = [[f"{axis.key}={each}" for each in dict.fromkeys(axis.choices or (axis.low, axis.high))] for axis in axes]
    first = [axis[0] for axis in values]
    others = [(place, each) for place, axis in enumerate(values) for each in axis[1:]]
    return [first, *([*first[:place], each, *first[place + 1 :]] for place, each in others)]


def quoted(value: Any) -> str:
    """A text, or a list of them, in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return QuotedString(str(value), Quote.single).with_quotes()


def encoded(value: Any) -> str:
    """A plain value in Hydra's grammar, a text without quotes if it needs none."""
    if isinstance(value, list):
        return f"[{','.join(map(encoded, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{encoded(each)}' for key, each in value.items())}}}"
    if isinstance(value, str):
        return value if parse_override(f"a={value}").value == value else quoted(value)
    return "null" if value is None else str(value).lower()
