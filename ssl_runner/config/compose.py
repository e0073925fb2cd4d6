"""From the command line to one resolved config, by Hydra: the only file that imports hydra and omegaconf.

Hydra stops at the first mistake in the overrides. Here each one is looked at by itself, so that all are said at once.
"""

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ssl_runner.config.check import nearest
from ssl_runner.config.files import writer_of
from ssl_runner.config.migrate import migrated
from ssl_runner.run_folder.layout import CONFIG

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent / "conf"
TREE = CHECKOUT if (CHECKOUT / CONFIG).exists() else PACKAGE / "conf"  # the latter in an installed wheel
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
        self.folder, self.name = folder, name
        path = create_config_search_path(f"file://{TREE}")
        if folder is not None and folder.is_dir():
            path.prepend("given", f"file://{folder.resolve()}")
        self.loader = ConfigLoaderImpl(path)
        files = self.loader.repository = Repository(path, name)  # asked itself, since the loader copies it first
        groups = {group: files.get_group_options(group) for group in files.get_group_options("", ObjectType.GROUP)}
        self.groups = {group: options for group, options in groups.items() if options and group != "hydra"}
        self._loaded: dict[tuple[str, ...], DictConfig] = {}  # by the choices: jobs of a sweep share them

    def compose(self, overrides: Sequence[str]) -> Composed:
        """One job. Never raises for what the user typed: that is in `problems`."""
        result = Composed()
        chosen: list[Chosen] = []
        values = []
        for override in self._parsed(overrides, result.problems):
            if override.is_sweep_override():
                result.problems.append(f"{override.input_line}: is a sweep over several values; type -m to run it")
            elif override.key_or_group in self.groups:
                chosen += self._choice(override, result.problems)
            elif override.key_or_group.startswith("hydra.") and override.key_or_group not in FOLDERS:
                result.problems.append(f"{override.key_or_group}: is not used here; possible are {', '.join(FOLDERS)}")
            else:
                values.append(override)
        whole, experiment = self._whole(chosen, result.problems)
        lacking: set[str] = set()
        if whole is None:
            config = self._load([each.line for each in chosen], result.problems)
        else:
            config, lacking = self._replaced(whole, chosen, experiment, result.problems)
        if config is None:
            return result
        for each in values:
            if each.type == OverrideType.CHANGE and each.key_or_group in lacking:
                each.type = OverrideType.FORCE_ADD
            if self._applies(each, config, result.problems):
                _apply(each, config, result.problems)
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

    def tree(self, choices: Sequence[str]) -> tuple[dict[str, Any], dict[str, str | None]]:
        """What choices give by themselves, with `???` where a key is mandatory; and the choice in each group and mount.

        A mount is `augment@pretext.augment`: a group and where its choice stands. Raises ValueError.
        """
        problems: list[str] = []
        config = self._load(choices, problems)
        if config is None:
            raise ValueError("\n".join(problems))
        mounted = dict(config.hydra.runtime.choices)
        try:
            content = OmegaConf.to_container(_without_hydra(config), resolve=True)
        except OmegaConfBaseException as error:
            raise ValueError(f"{self.name}: {_line(error)}") from None
        assert isinstance(content, dict)
        return {str(k): v for k, v in content.items()}, {k: v for k, v in mounted.items() if not k.startswith("hydra/")}

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

    def _choice(self, override: Override, problems: list[str]) -> list["Chosen"]:
        """A group's override as Hydra takes it, or nothing where it names no choice of the group."""
        group, value, line = override.key_or_group, override.value(), str(override.input_line)
        # `experiment` stands in the defaults list, empty; +experiment=NAME means the same to whoever types it
        line = line.removeprefix("+") if group == "experiment" else line
        options = self.groups[group]
        if override.is_delete():
            return [Chosen(override, line)]  # what is then missing is for the schema to say
        if value is None and group == "experiment":
            return []
        words = value if isinstance(value, list) and group == "evaluator" else [value]
        unknown = [word for word in words if str(word) not in options]
        for word in unknown:
            given = "null" if word is None else str(word)
            problems.append(f"{group}: given {given}; possible are {', '.join(options)}{nearest(given, options)}")
        return [] if unknown else [Chosen(override, line)]

    def _whole(self, chosen: Sequence["Chosen"], problems: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        """The content of a whole config where one was named, as the config or as the experiment; and the experiment."""
        experiments = [each.override for each in chosen if each.override.key_or_group == "experiment"]
        experiment = str(experiments[-1].value()) if experiments and not experiments[-1].is_delete() else None
        primary = self._read(self.name)
        if primary is not None and is_whole(primary):
            if experiment is not None:
                problems.append(
                    f"experiment: given {experiment}, and {self.name} is the whole config of a run; leave one out"
                )
            return _plain(primary.config), None
        recipe = None if experiment is None else self._read(f"experiment/{experiment}")
        if recipe is not None and is_whole(recipe):
            return _plain(recipe.config), experiment
        if recipe is not None and recipe.header.get("package") != "_global_":
            problems.append(
                f"experiment/{experiment}.yaml: is no whole config of a run, and so its first line is to be "
                "# @package _global_"
            )
        return None, experiment

    def _read(self, path: str) -> ConfigResult | None:
        try:
            return self.loader.repository.load_config(path)
        except MISTAKES:
            return None  # composing it will say the same, in a line

    def _replaced(
        self, whole: Mapping[str, Any], chosen: Sequence["Chosen"], experiment: str | None, problems: list[str]
    ) -> tuple[DictConfig | None, set[str]]:
        """A whole config; what was chosen on top takes the place of what it has there, and is as the tree has it.

        And the keys that it lacks although the tree has them: settings that are newer than the file.
        """
        hidden = experiment is None and self.name == "config"  # the tree's own config, by the one that is whole
        tree = self if experiment is not None else Composer(None if hidden else self.folder)
        chosen = [each for each in chosen if each.override.key_or_group != "experiment"]
        alone = [each.override for each in chosen if not each.override.package]
        typed = {each.key_or_group: value for each in alone if isinstance(value := each.value(), str)}
        recorded = whole.get("choices")
        known = {str(k): str(v) for k, v in recorded.items()} if isinstance(recorded, dict) else {}
        # What is mounted below a choice can be chosen only beside it.
        beside = [f"{k}={v}" for k, v in known.items() if k not in typed and v in tree.groups.get(k, ())]
        measured = [each for each in whole.get("evaluator") or () if each in tree.groups.get("evaluator", ())]
        if measured and all(each.key_or_group != "evaluator" for each in alone):
            beside.append(f"evaluator=[{','.join(measured)}]")
        config = tree._load([*beside, *(each.line for each in chosen)], problems)
        if config is None:
            return None, set()
        content = dict(whole)
        for place in sorted({each.place for each in chosen}, key=len):
            *above, last = place.split(".")
            node = content
            for word in above:
                below = node.get(word)
                node[word] = dict(below) if isinstance(below, dict) else {}
                node = node[word]
            if (new := OmegaConf.select(config, place)) is not None:
                node[last] = _plain(new)
            else:
                node.pop(last, None)
        known |= typed | ({} if experiment is None else {"experiment": experiment})
        if isinstance(recorded, dict):
            content["choices"] = {**recorded, **typed}
        new = set(_keys(config))
        with open_dict(config):
            for key in [key for key in config if key != "hydra"]:
                del config[key]
            for key, value in content.items():
                config[key] = value
            config.hydra.runtime.choices = known
        return config, new - set(_keys(config))

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

    def _load(self, choices: Sequence[str], problems: list[str]) -> DictConfig | None:
        words = [*UNNAMED, *choices]
        try:
            if tuple(choices) not in self._loaded:
                loaded = self.loader.load_configuration(self.name, words, RunMode.RUN, from_shell=False)
                self._loaded[tuple(choices)] = loaded
            return copy.deepcopy(self._loaded[tuple(choices)])
        except MISTAKES as error:
            line = _line(error)
            problems.append(line if line.startswith("experiment/") else f"{self.name}: {line}")
            return None


@dataclass(frozen=True)
class Chosen:
    """An override of a group, and the line that Hydra takes for it."""

    override: Override
    line: str

    @property
    def place(self) -> str:
        """Where the choice stands in the config: `pretext`, `pretext.augment`."""
        return (self.override.package or self.override.key_or_group).removeprefix("_global_.")


class Repository(ConfigRepository):
    """Hydra's files, of which the one to start from and the experiments are migrated from older formats."""

    def __init__(self, path: ConfigSearchPath, primary: str):
        super().__init__(path)
        self.primary = primary

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Raises ValueError where the format is none that this version reads."""
        found = super().load_config(config_path)
        if found is None or (config_path != self.primary and not config_path.startswith("experiment/")):
            return found
        if not isinstance(found.config, DictConfig):
            return found
        folder = Path(found.path.removeprefix("file://"))
        found.config = OmegaConf.create(migrated(_plain(found.config), f"{config_path}.yaml", writer_of(folder)))
        return found


def is_whole(read: ConfigResult) -> bool:
    """Whether a file is a job by itself: nothing that it is laid over, and every group in it."""
    if read.defaults_list or not isinstance(read.config, DictConfig):
        return False
    return all(isinstance(node := read.config.get(group), DictConfig) and "_target_" in node for group in GROUPS)


GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
NOT_TYPED = "<named by the runner>"
# Hydra's own default is a folder by the second, which two runs may share.
# A file's hydra.searchpath could name pkg://MODULE, and to look into a module is to import it.
UNNAMED = [*(f"{folder}='{NOT_TYPED}'" for folder in FOLDERS), "hydra.searchpath=[]"]
# What others call our settings.
ALIASES = {
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "epochs": "length",
    "max_epochs": "length",
    "batch": "batch_size",
    "wd": "optimizer.weight_decay",
}


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
    plain = OmegaConf.to_container(_without_hydra(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _plain(config: Container) -> dict[str, Any]:
    """Plain values, with interpolations and `???` as they are written."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _apply(override: Override, config: DictConfig, problems: list[str]) -> None:
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except MISTAKES as error:
        problems.append(f"{override.input_line}: {_line(error)}")


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
