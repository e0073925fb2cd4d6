"""Hydra by its public face: override grammar, composition of YAML choices, interpolation. Plain values come out.

The only importer of hydra, and with files.py of omegaconf. What the public face cannot do is done on plain values in
compose.py: it stops at the first mistake, tells no choices of a group, and applies overrides only while composing.
"""

from collections.abc import Mapping, Sequence
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
    except HydraException as error:
        raise ValueError(f"{text}: cannot be read as key=value ({one_line(error)})") from None
    values: tuple[str, ...] = ()
    if parsed.is_discrete_sweep():
        try:
            key = parsed.get_key_element()
            values = tuple(f"{key}={value}" for value in dict.fromkeys(parsed.sweep_string_iterator()))
        except (HydraException, ValueError) as error:
            raise ValueError(f"{text}: {one_line(error)}") from None
    value = None if parsed.is_sweep_override() else parsed.value()
    name = parsed.type.name
    return Override(text, parsed.key_or_group, parsed.package, name, value, values, parsed.is_sweep_override())


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


def compose_tree(folders: Sequence[Path], name: str, choices: Sequence[str]) -> Tree:
    """Composes choices from the YAML files in folders, the first of which wins. Raises ValueError in one line."""
    *SearchFirst.folders, last = folders
    # Typed, it replaces a file's own, which could name pkg://MODULE: to look into a module is to import it.
    no_path = "hydra.searchpath=[]"
    try:
        Plugins.instance().register(SearchFirst)
        with initialize_config_dir(str(last), version_base="1.3"):
            origin = compose(name, [no_path, *choices], return_hydra_config=True)
        content = OmegaConf.masked_copy(origin, [str(key) for key in origin if key != "hydra"])
        mounted = {str(key): value for key, value in origin.hydra.runtime.choices.items()}
    except Exception as error:  # a file may be anything
        raise ValueError(one_line(error)) from None
    plain = OmegaConf.to_container(content)
    assert isinstance(plain, dict)
    return Tree(
        {str(key): value for key, value in plain.items()},
        {key: value for key, value in mounted.items() if not key.startswith("hydra/")},
        origin,
    )


def resolve(content: Mapping[str, Any], keys: Sequence[str], origin: DictConfig | None) -> tuple[dict, dict[str, str]]:
    """The content without interpolations; and, by key, what is wrong with those of `keys` that point nowhere."""
    if origin is not None:
        HydraConfig.instance().set_config(origin)  # for ${hydra:...}
    config, problems = OmegaConf.create(dict(content)), {}
    for key in keys:
        try:
            OmegaConf.select(config, key)
        except OmegaConfBaseException as error:
            problems[key] = one_line(error).partition(" full_key")[0]
    if problems:
        return {}, problems
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # in a list
        return {}, {str(getattr(error, "full_key", None) or "config"): one_line(error).partition(" full_key")[0]}
    assert isinstance(plain, dict)
    return plain, {}


def quoted(value: Any) -> str:
    """A text, or a list of them, in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return QuotedString(str(value), Quote.single).with_quotes()


def one_line(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split())[:300]
