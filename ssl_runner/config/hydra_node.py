"""Hydra's own node of a config: folders, names, launcher and sweeper that are honoured, by their keys below `hydra`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.config.composed import Composed
from ssl_runner.config.grammar import Override, encoded
from ssl_runner.config.hydra import Tree, default_node
from ssl_runner.config.override import ABSENT, get, leaves, put

# What of Hydra's node is used here, and what it does.
HYDRA_KEYS = {
    "run.dir": "folder of a run; by default outputs/<pretext>-<dataset>/<time>",
    "sweep.dir": "folder of a sweep; by default outputs/sweeps/<time>",
    "sweep.subdir": "folder of a job below the sweep's, as in ${hydra.job.num}-${hydra.job.override_dirname}",
    "searchpath": "folders of configs that are looked in before ours: [FOLDER, pkg://PACKAGE.FOLDER]",
    "verbose": "true: messages of every logger; [timm,PIL]: of these",
    "job_logging.root.level": "DEBUG, INFO, WARNING or ERROR: from which on messages reach console and run.log",
    "job_logging.loggers.NAME.level": "the same of one logger",
    "job.name": "for ${hydra.job.name}; by default ssl_runner",
    "job.config.override_dirname.kv_sep": "between key and value in ${hydra.job.override_dirname}; by default =",
    "job.config.override_dirname.item_sep": "between items there; by default a comma",
    "job.config.override_dirname.exclude_keys": "keys that are left out there, as in [seed]",
}
FOLDERS = ("run.dir", "sweep.dir", "sweep.subdir")
DIRNAME = "job.config.override_dirname"
NAME = "job.name"
TEXTS = (*FOLDERS, NAME, f"{DIRNAME}.kv_sep", f"{DIRNAME}.item_sep")
HONOURED = (*TEXTS, f"{DIRNAME}.exclude_keys", "searchpath", "verbose", "job_logging.root.level")
LEVEL = re.compile(r"job_logging\.(?:root|loggers\.(\w+))\.level")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# What Hydra has and we do otherwise: what to type.
INSTEAD = {
    "callbacks": "no code runs because a config says so; summary.json has what a run came to",
    "mode": "type -m for a sweep",
    "job.chdir": "a job stays in the folder in which you type; hydra.run.dir=FOLDER names its own",
    "job.env_set": "type NAME=VALUE ssl-runner ...",
    "job.id": "a launcher gives it",
    "output_subdir": "a run folder has config.yaml and overrides.yaml in itself",
    "job_logging": "run.log and the console are as they are; type hydra.job_logging.root.level=ERROR for fewer lines",
    "hydra_logging": "type hydra.verbose or hydra.job_logging.root.level",
    "help": "type --help",
    "hydra_help": "type --hydra-help",
    "output": "hydra.run.dir=FOLDER and hydra.sweep.dir=FOLDER name folders",
}
GROUPS = ("launcher", "sweeper", "sweeper/sampler", "sweeper/pruner")
OF_NODE = re.compile(r"[+~]*hydra[./]")
# It fills them itself.
OF_HYDRA = re.compile(r"(runtime|overrides)\.|(searchpath|job\.(config_name|override_dirname))$")


def file_node(tree: Tree) -> dict[str, Any]:
    """What the files of a tree say by the keys that are honoured; None if they do not."""
    loggers = (f"job_logging.{key}" for key in leaves(tree.hydra["job_logging"] or {}))
    values = {key: get(tree.hydra, key) for key in (*HONOURED, *filter(LEVEL.fullmatch, loggers))}
    return {key: None if value in (ABSENT, "???") else value for key, value in values.items()}


def note(result: Composed, tree: Tree, own: Mapping[str, Any], settings: Iterable[str], words: Sequence[str]) -> None:
    """Sets what a job has of Hydra's node: folders, levels of loggers, the node itself. `own`: values by their keys."""
    result.sweep_words = sweep_words(tree, {key: own[key] for key in settings})
    result.folder, result.sweep_folder, result.subfolder = (own[key] for key in FOLDERS)
    result.levels, wrong = log_levels(own)
    result.problems += wrong
    result.hydra = whole_node(tree, own, words)


def whole_node(tree: Tree, own: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Hydra's node of a job with what was typed of it. `own`: values by their keys below `hydra`."""
    node = {key: value for key, value in tree.hydra.items() if key not in ("help", "hydra_help")}
    place = "outputs/{pretext}-{dataset}/<time>".format_map({"pretext": "", "dataset": "", **tree.choices})
    typed = {key: value for key, value in own.items() if value is not None}
    for key, value in {"run.dir": place, "sweep.dir": "outputs/sweeps/<time>", **typed}.items():
        put(node, key, value)
    put(node, "runtime.output_dir", node["run"]["dir"])
    put(node, "overrides.task", [word for word in words if not OF_NODE.match(word)])
    put(node, "overrides.hydra", [word for word in words if OF_NODE.match(word)])
    return node


def unused_keys(tree: Tree, folder: Path) -> list[str]:
    """A line for each key that the files of a tree set and that is not honoured."""
    now, before = leaves(tree.hydra), leaves(default_node(str(folder)))
    keys = [key for key in now if now[key] != before.get(key, ABSENT) and not OF_HYDRA.match(key)]
    keys = [key for key in keys if not LEVEL.fullmatch(key)]
    keys = [key for key in keys if key not in HONOURED and key.partition(".")[0] not in ("launcher", "sweeper")]
    return list(dict.fromkeys(not_used(f"hydra.{'.'.join(key.split('.')[:2])}") for key in keys))


def is_unused(override: Override) -> bool:
    """Whether an override is for Hydra's node and not honoured."""
    if not re.match(r"hydra([./]|$)", override.key):
        return False
    key = override.key.removeprefix("hydra.")
    return not (key in HONOURED or LEVEL.fullmatch(key)) or override.action == "DEL"


def not_used(key: str) -> str:
    """The line about a key, or a group, of Hydra's that is not honoured: what to type instead."""
    name = re.sub(r"^hydra[./]", "", key).replace("/", ".")
    instead = [hint for each, hint in INSTEAD.items() if f"{name}.".startswith(f"{each}.")]
    possible = f"possible are {', '.join(f'hydra.{each}' for each in HYDRA_KEYS)}"
    return f"{key}: is not used here; {instead[-1] if instead else possible}"


def log_levels(own: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Levels by the logger's name, the root's by an empty one; and a line for each that is none."""
    wanted = {match[1] or "": (key, level) for key, level in own.items() if level and (match := LEVEL.fullmatch(key))}
    verbose = own.get("verbose") or []
    names = [""] if verbose is True else [verbose] if isinstance(verbose, str) else verbose
    wanted |= {str(name): ("verbose", LEVELS[0]) for name in names}
    wrong = [f"hydra.{key}: given {level}" for key, level in wanted.values() if level not in LEVELS]
    levels = {name: level for name, (_, level) in wanted.items() if (name, level) != ("", "INFO")}
    return levels, [f"{line}; possible are {', '.join(LEVELS)}" for line in wrong]


def sweep_choices(tree: Tree) -> dict[str, str]:
    """Launcher, sweeper and what belongs to it, as far as the files of a tree choose one."""
    choices = tree.hydra["runtime"]["choices"]
    return {group: name for group in GROUPS if (name := choices.get(f"hydra/{group}")) not in (None, "basic")}


def sweep_settings(tree: Tree, folders: Sequence[Path]) -> dict[str, Any]:
    """What the files of a tree change in their launcher and sweeper, by keys below `hydra`."""
    usual = leaves(default_node(str(folders[-1])))
    for group, name in sweep_choices(tree).items():
        file = next(each for folder in folders if (each := folder / "hydra" / group / f"{name}.yaml").is_file())
        content, key = yaml.safe_load(file.read_text(encoding="utf-8")) or {}, group.replace("/", ".")
        usual |= {f"{key}.{each}": value for each, value in leaves(content).items()}
    now = leaves({group: tree.hydra[group] for group in ("launcher", "sweeper")})
    return {key: now[key] for key in now if usual.get(key, ABSENT) != now[key] and not key.startswith("sweeper.params")}


def sweep_words(tree: Tree, settings: Mapping[str, Any]) -> list[str]:
    """What files choose, set and sweep, as the words that one would type after -m. `settings`: resolved."""
    words = [f"hydra/{group}={name}" for group, name in sweep_choices(tree).items()]
    words += [f"hydra.{key}={encoded(value)}" for key, value in settings.items()]
    swept = leaves(tree.hydra["sweeper"].get("params") or {})  # in the grammar of the command line
    return [*words, *(f"{key}={each if isinstance(each, str) else encoded(each)}" for key, each in swept.items())]


def override_dirname(overrides: Sequence[Override], node: Mapping[str, Any]) -> str:
    """Hydra's `hydra.job.override_dirname`: what was typed of a job, sorted, in one name."""
    typed = [each.text for each in overrides if each.key not in (node[f"{DIRNAME}.exclude_keys"] or ())]
    own = [each for each in typed if not OF_NODE.match(each)]
    between, behind = (node[f"{DIRNAME}.{each}"] for each in ("item_sep", "kv_sep"))
    return between.join(sorted(own)).replace("=", behind)
