"""The launcher and the sweeper that a sweep is to use, as typed: `hydra/launcher=joblib hydra.launcher.n_jobs=4`."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ssl_runner.config.compose import TREE
from ssl_runner.errors import nearest

Kind = Literal["launcher", "sweeper"]
OWN: dict[Kind, str] = {"launcher": "local", "sweeper": "grid"}  # what the runner does by itself
OWN_SETTINGS = "sweep.jobs_per_device, sweep.threads"


@dataclass(frozen=True)
class Plugin:
    """A launcher or sweeper that is installed, with settings that it has."""

    kind: Kind
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def parted(words: Sequence[str]) -> tuple[list[str], dict[Kind, list[str]]]:
    """Overrides of the jobs, and by kind those that choose and set a plugin."""
    own: dict[Kind, list[str]] = {"launcher": [], "sweeper": []}
    jobs: list[str] = []
    for word in words:
        key = word.lstrip("+~").partition("=")[0].replace("/", ".").split(".")
        kind = next((each for each in OWN if key[:2] == ["hydra", each]), None)
        (jobs if kind is None else own[kind]).append(word)
    return jobs, own


def read(kind: Kind, words: Sequence[str]) -> tuple[Plugin | None, list[str]]:
    """The plugin that was chosen, or None for the runner's own; and a line for each thing that is wrong."""
    problems: list[str] = []
    parsed = _parsed(words, problems)
    chosen = {each.key_or_group: str(each.value()) for each in parsed if "/" in each.key_or_group}
    values = [each for each in parsed if "/" not in each.key_or_group]
    group = f"hydra/{kind}"
    name = chosen.pop(group, OWN[kind])
    if name in (OWN[kind], "basic"):
        for key in [*chosen, *(each.key_or_group for each in values)]:
            to_set = f"; {name} is set by {OWN_SETTINGS}" if kind == "launcher" else ""
            problems.append(f"{key}: belongs to a {kind} that was not chosen; type {group}=...{to_set}")
        return None, problems
    settings = _read(group, name, [OWN[kind], *_options(group)], problems)
    if settings is None:
        return None, problems
    if kind == "sweeper":
        at = f"{group}/sampler"
        settings.sampler = _read(at, chosen.pop(at, "tpe"), _options(at), problems) or {}
    problems += [f"{key}: is no group here; possible are {group}, hydra/sweeper/sampler" for key in chosen]
    for each in values:
        _apply(each, kind, settings, problems)
    if not installed(str(settings._target_)):
        extra = name.partition("_")[0]
        problems.append(f"{group}={name}: needs hydra-{extra}-{kind}; type pip install 'ssl-runner[{extra}]'")
    else:
        problems += _mistaken(kind, name, settings)
    plain = OmegaConf.to_container(settings, resolve=False)
    assert isinstance(plain, dict)
    return (None if problems else Plugin(kind, name, {str(k): v for k, v in plain.items()})), problems


def values(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The keys and values of words such as `sweep.threads=2`, of the same key the last; and what cannot be read."""
    problems: list[str] = []
    return {each.key_or_group: each.value() for each in _parsed(words, problems)}, problems


def installed(target: str) -> bool:
    """Whether the package of a plugin's class is there."""
    try:
        return importlib.util.find_spec(".".join(target.split(".")[:2])) is not None
    except ModuleNotFoundError:  # there is no plugin at all
        return False


def _parsed(words: Sequence[str], problems: list[str]) -> list[Override]:
    parser, parsed = OverridesParser.create(), []
    for text in words:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            problems.append(f"{text}: cannot be read as key=value ({' '.join(str(error).split())})")
            continue
        if override.is_delete() or override.is_sweep_override():
            problems.append(f"{text}: a sweep has one value of it; type key=value")
        else:
            parsed.append(override)
    return parsed


def _options(group: str) -> list[str]:
    return sorted(file.stem for file in (TREE / group).glob("*.yaml"))


def _read(group: str, name: str, possible: Sequence[str], problems: list[str]) -> DictConfig | None:
    """What the YAML of a choice says."""
    if name not in _options(group):
        problems.append(f"{group}: given {name}; possible are {', '.join(possible)}{nearest(name, possible)}")
        return None
    content = OmegaConf.load(TREE / group / f"{name}.yaml")
    assert isinstance(content, DictConfig)
    return content


def _apply(override: Override, kind: Kind, settings: DictConfig, problems: list[str]) -> None:
    """Sets one key; below a mapping whose keys are a library's own, such as ray.init, + adds one."""
    path = override.key_or_group.removeprefix(f"hydra.{kind}.")
    parent, _, last = path.rpartition(".")
    node = OmegaConf.select(settings, parent) if parent else settings
    adds = (override.is_add() or override.is_force_add()) and parent and isinstance(node, DictConfig)
    if last.startswith("_") or not (adds or (isinstance(node, DictConfig) and last in node)):
        keys = _keys(settings)
        guess = nearest(path, keys) or nearest(last, keys)
        problems.append(f"{override.key_or_group}: is no setting; possible here: {', '.join(keys)}{guess}")
        return
    with open_dict(settings):
        OmegaConf.update(settings, path, override.value(), merge=True)


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in map(str, node):
        if not key.startswith("_"):
            found.append(f"{prefix}{key}")
            value = node._get_node(key)
            if isinstance(value, DictConfig) and not value._is_none():
                found += _keys(value, f"{prefix}{key}.")
    return found


def _mistaken(kind: Kind, name: str, settings: DictConfig) -> list[str]:
    """Values that the plugin's own schema refuses."""
    Plugins.instance()  # what is installed registers its schema
    problems = []
    for key in map(str, settings):
        if key == "sampler":
            continue
        schema = ConfigStore.instance().load(f"hydra/{kind}/{name}.yaml").node
        try:
            OmegaConf.merge(schema, {key: settings._get_node(key)})
        except OmegaConfBaseException as error:
            problems.append(f"hydra.{kind}.{key}: {str(error).partition(chr(10))[0]}")
    if kind == "sweeper":
        if settings.direction not in ("minimize", "maximize"):
            problems.append(f"hydra.sweeper.direction: given {settings.direction}; possible are minimize, maximize")
        for key in ("n_trials", "n_jobs"):
            if isinstance(settings[key], int) and settings[key] < 1:
                problems.append(f"hydra.sweeper.{key}: given {settings[key]}, and 1 or more is wanted")
    return problems
