"""From the command line to one resolved config, by Hydra: the only file that imports hydra and omegaconf.

Hydra stops at the first mistake in the overrides. Here each one is looked at by itself, so that all are said at once.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_runner.schema import nearest

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent / "conf"
TREE = CHECKOUT if (CHECKOUT / "config.yaml").exists() else PACKAGE / "conf"  # the latter in an installed wheel
MISTAKES = (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError)


@dataclass
class Composed:
    """A job's config: resolved plain values, the choice made in each group, the folder typed, what is wrong with it."""

    content: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    folder: str | None = None  # hydra.run.dir, where it was typed
    sweep_folder: str | None = None  # hydra.sweep.dir, likewise
    problems: list[str] = field(default_factory=list)  # a line each; with any, the config is not to be used


class Composer:
    """Composes configs from a tree of YAML files; a folder given beside it is looked in first."""

    def __init__(self, folder: Path | None = None, name: str = "config"):
        setup_globals()
        path = create_config_search_path(f"file://{TREE}")
        if folder is not None:
            path.prepend("given", f"file://{folder.resolve()}")
        self.name, self.loader = name, ConfigLoaderImpl(path)
        self.groups = {group: self.loader.get_group_options(group) for group in self.loader.list_groups("")}
        self.groups = {group: options for group, options in self.groups.items() if options and group != "hydra"}

    def compose(self, overrides: Sequence[str]) -> Composed:
        """One job. Never raises for what the user typed: that is in `problems`."""
        result = Composed()
        choices, values = [], []
        for override in self._parsed(overrides, result.problems):
            if override.is_sweep_override():
                result.problems.append(f"{override.input_line}: is a sweep over several values; type -m to run it")
            elif override.key_or_group in self.groups:
                choices += self._choice(override, result.problems)
            elif override.key_or_group.startswith("hydra.") and override.key_or_group not in FOLDERS:
                result.problems.append(f"{override.key_or_group}: is not used here; possible are {', '.join(FOLDERS)}")
            else:
                values.append(override)
        config = self._load([*UNNAMED, *choices], result.problems)
        if config is None:
            return result
        good = [each for each in values if self._applies(each, config, result.problems)]
        config = self._load([*UNNAMED, *choices, *(str(each.input_line) for each in good)], result.problems)
        if config is None:
            return result
        HydraConfig.instance().set_config(config)  # for ${hydra:...} in a config
        result.choices = {str(k): str(v) for k, v in config.hydra.runtime.choices.items() if k in self.groups}
        result.content = _resolved(config, result.problems)
        try:
            run, sweep = str(config.hydra.run.dir), str(config.hydra.sweep.dir)
        except OmegaConfBaseException as error:
            result.problems.append(f"hydra: {_line(error)}")
            return result
        result.folder = None if run == NOT_TYPED else run
        result.sweep_folder = None if sweep == NOT_TYPED else sweep
        return result

    def expand(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[str]]:
        """The jobs of a sweep in Hydra's grid syntax, each a list of overrides; and what cannot be read."""
        problems: list[str] = []
        axes: dict[str, list[str]] = {}
        for override in self._parsed(overrides, problems):
            key, text, override.config_loader = override.get_key_element(), str(override.input_line), self.loader
            axes[key] = [text]  # of a key typed twice the last counts, as in a single run
            if override.is_sweep_override() and not override.is_discrete_sweep():
                problems.append(f"{text}: is an interval; a grid needs values: a=1,2 or a=range(1,4)")
            elif override.is_sweep_override():
                try:
                    axes[key] = [f"{key}={value}" for value in dict.fromkeys(override.sweep_string_iterator())]
                except HydraException as error:
                    problems.append(f"{text}: {_line(error)}")
                if not axes[key]:
                    possible = self.groups.get(override.key_or_group, [])
                    problems.append(
                        f"{text}: matches nothing; possible are {', '.join(possible) or 'values, as in a=1,2'}"
                    )
        if problems:
            return [], problems
        return [list(job) for job in itertools.product(*axes.values())], problems

    def _parsed(self, overrides: Iterable[str], problems: list[str]) -> list[Override]:
        parser, parsed = OverridesParser.create(config_loader=self.loader), []
        for text in overrides:
            try:
                override = parser.parse_override(text)
            except HydraException as error:
                problems.append(f"{text}: cannot be read as key=value ({_line(error)})")
                continue
            override.input_line = text
            parsed.append(override)
        return parsed

    def _choice(self, override: Override, problems: list[str]) -> list[str]:
        """A group's override as Hydra takes it, or nothing where it names no choice of the group."""
        group, value = override.key_or_group, override.value()
        options = self.groups[group]
        if override.is_delete():
            return [str(override.input_line)]  # what is then missing is for the schema to say
        if value is None and group == "experiment":
            return []
        words = value if isinstance(value, list) and group == "evaluator" else [value]
        unknown = [word for word in words if str(word) not in options]
        for word in unknown:
            given = "null" if word is None else str(word)
            problems.append(f"{group}: given {given}; possible are {', '.join(options)}{nearest(given, options)}")
        if unknown:
            return []
        # `experiment` stands in the defaults list, empty; +experiment=NAME means the same to whoever types it
        return [str(override.input_line).removeprefix("+") if group == "experiment" else str(override.input_line)]

    def _applies(self, override: Override, config: DictConfig, problems: list[str]) -> bool:
        key = override.key_or_group
        if override.is_add() or override.is_force_add():
            return True  # whether such a key may be there is for the schema to say
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else config
        if isinstance(node, DictConfig) and last in node.keys():  # noqa: SIM118  `in node` is false for ??? values
            return True
        keys = [k for k in _keys(config) if not k.endswith("_target_")]
        same_end = [k for k in keys if k.rpartition(".")[2] == last]
        if key in ALIASES and ALIASES[key] in keys:
            guess = f"; did you mean {ALIASES[key]}?"
        elif same_end:
            guess = f"; did you mean {' or '.join(same_end[:3])}?"
        else:
            guess = nearest(key, [*keys, *self.groups])
        siblings = [k for k in keys if k.rpartition(".")[0] == parent] or [k for k in keys if "." not in k]
        problems.append(f"{key}: is no setting; possible here: {', '.join(siblings)}{guess}")
        return False

    def _load(self, overrides: list[str], problems: list[str]) -> DictConfig | None:
        try:
            return self.loader.load_configuration(self.name, overrides, RunMode.RUN, from_shell=False)
        except MISTAKES as error:
            line = _line(error)
            if "match in the defaults list" in line:
                line = (
                    "this config is resolved, so no group can be chosen in it; change its keys, as in "
                    "optimizer.lr=0.1, or start from the tree with what its overrides.yaml says"
                )
            problems.append(f"{self.name}: {line}")
            return None


FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
NOT_TYPED = "<named by the runner>"
# Hydra's own default is a folder by the second, which two runs may share.
UNNAMED = [f"{folder}='{NOT_TYPED}'" for folder in FOLDERS]
# What others call our settings.
ALIASES = {
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "epochs": "length",
    "max_epochs": "length",
    "batch": "batch_size",
    "wd": "optimizer.weight_decay",
}


def read(path: Path, kind: type = dict) -> Any:
    """A resolved config (a mapping), or a list of overrides, from a file.

    Raises OSError, or ValueError where the file is torn or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is torn or no YAML ({_line(error)})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path} is torn: it holds no {'config' if kind is dict else kind.__name__}")
    return content


def dump(content: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _resolved(config: DictConfig, problems: list[str]) -> dict[str, Any]:
    """Plain values without Hydra's own; what is mandatory and missing, or points nowhere, is a problem each."""
    found = []
    for key in _keys(config):
        try:
            if OmegaConf.is_missing(*_place(config, key)):
                found.append(f"{key}: is missing; type {key}=...")
            else:
                OmegaConf.select(config, key)
        except OmegaConfBaseException as error:
            found.append(f"{key}: {_line(error).partition(' full_key')[0]}")
    if found:
        problems += found
        return {}
    content = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(content, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _place(config: DictConfig, key: str) -> tuple[DictConfig, str]:
    """The mapping that holds a key's last part, and that part."""
    parent, _, last = key.rpartition(".")
    return (OmegaConf.select(config, parent) if parent else config), last


def _keys(config: DictConfig, prefix: str = "") -> Iterable[str]:
    for key in map(str, config):
        if not prefix and key == "hydra":
            continue
        yield f"{prefix}{key}"
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from _keys(node, f"{prefix}{key}.")


def _line(error: BaseException) -> str:
    """An error's own words on one line."""
    return " ".join(str(error).split())[:300]
