"""Hydra by its public face: override grammar, composition of YAML choices, interpolation. Plain values come out.

The only importer of hydra, and with files.py of omegaconf. What the public face cannot do is done on plain values in
compose.py: it stops at the first mistake, tells no choices of a group, and applies overrides only while composing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Quote, QuotedString, RangeSweep, Transformer
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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


@dataclass(frozen=True)
class Tree:
    """What choices give: content with interpolations as they are written, and the choice in each group and mount."""

    content: dict[str, Any]
    choices: dict[str, str | None]
    origin: DictConfig


@dataclass(frozen=True)
class Axis:
    """A searched key: one of `choices`, or, without any, a number from `low` to `high`, both included."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None  # None: any number between
    log: bool = False


class SearchFirst(SearchPathPlugin):
    """Folders that are looked in before the one that Hydra is initialised with."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("given", f"file://{folder}")


def parse_override(text: str, groups: Mapping[str, list[str]] = {}) -> Override:
    """`groups`: the choices that `group=glob(*)` may mean. Raises ValueError in one line."""
    loader: Any = SimpleNamespace(get_group_options=lambda group, results_filter=None: groups.get(group, []))
    try:
        parsed = OverridesParser.create().parse_override(text)
        parsed.config_loader = loader
        words = dict.fromkeys(parsed.sweep_string_iterator()) if parsed.is_discrete_sweep() else ()
        values = tuple(f"{parsed.get_key_element()}={word}" for word in words)
    except (HydraException, ValueError, RecursionError) as error:
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise ValueError(f"{shown}: cannot be read as key=value ({one_line(error)})") from None
    is_sweep = parsed.is_sweep_override()
    value = None if is_sweep else parsed.value()
    return Override(text, parsed.key_or_group, parsed.package, parsed.type.name, value, values, is_sweep)


def read_overrides(words: Iterable[str], groups: Mapping[str, list[str]] = {}) -> tuple[list[Override], list[str]]:
    """The words that are overrides, and a line for each that is none."""
    overrides, problems = [], []
    for word in words:
        try:
            overrides.append(parse_override(word, groups))
        except ValueError as error:
            problems.append(str(error))
    return overrides, problems


def read_assignments(words: Iterable[str]) -> tuple[list[Override], list[str]]:
    """The words `key=value`, and a line for each that is none."""
    overrides, problems = read_overrides(words)
    several = [each for each in overrides if each.action == "DEL" or each.is_sweep]
    problems += [f"{each.text}: a sweep has one value of it; type key=value" for each in several]
    return [each for each in overrides if each not in several], problems


def is_searched(word: str) -> bool:
    """Whether a word has more than one value."""
    return any(each.is_sweep for each in read_overrides([word])[0])


def read_axes(words: Iterable[str]) -> tuple[list[Axis], list[str]]:
    """What is searched, and a line for each word that cannot be."""
    axes = {word: parse_axis(word) for word in words}
    return [each for each in axes.values() if each], [f"{word}: {EXAMPLE}" for word, each in axes.items() if not each]


def parse_axis(text: str) -> Axis | None:
    """What a word searches: `a=x,y`, `a=range(1,9)`, `a=tag(log,interval(1e-4,1))`. None for a glob, or nothing."""
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


def compose_tree(folders: Sequence[Path], name: str, choices: Sequence[str]) -> Tree:
    """Composes choices from the YAML files in folders, the first of which wins. Raises ValueError in one line."""
    *SearchFirst.folders, last = folders
    # Typed, it replaces a file's own, which could name pkg://MODULE: to look into a module is to import it.
    no_path = "hydra.searchpath=[]"
    try:
        Plugins.instance().register(SearchFirst)
        with initialize_config_dir(str(last), version_base="1.3"):
            origin = compose(name, [no_path, *choices], return_hydra_config=True)
        content: Any = OmegaConf.to_container(origin)
    except Exception as error:  # a file may be anything
        raise ValueError(one_line(error)) from None
    mounts = content.pop("hydra")["runtime"]["choices"]
    own = {key: value for key, value in mounts.items() if not key.startswith("hydra/")}
    return Tree({str(key): value for key, value in content.items()}, own, origin)


def resolve(content: Mapping[str, Any], keys: Sequence[str], tree: Tree | None) -> tuple[dict, dict[str, str]]:
    """The content without interpolations; and, by key, what is wrong with those of `keys` that point nowhere."""
    if tree is not None:
        HydraConfig.instance().set_config(tree.origin)  # for ${hydra:...}
    config, problems = OmegaConf.create(dict(content)), dict[str, str]()
    plain: Any = None
    for key in (*keys, None):  # at last the whole, for what stands in lists
        try:
            plain = OmegaConf.select(config, key) if key else OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            problems.setdefault(key or str(error.full_key or "config"), one_line(error).partition(" full_key")[0])
    return {} if problems else plain, problems


def quoted(value: Any) -> str:
    """A text, or a list of them, in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return QuotedString(str(value), Quote.single).with_quotes()


def one_line(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split())[:300]
