"""Launcher and sweeper of a sweep, as typed: `hydra/launcher=ray hydra.launcher.ray.remote.num_gpus=1`.

A choice is a YAML of conf/hydra/ with the values, and a constructor whose signature says what they may be.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from ssl_runner.config.check import check
from ssl_runner.config.compose import TREE
from ssl_runner.config.hydra import read_assignments
from ssl_runner.config.node import Node
from ssl_runner.errors import nearest
from ssl_runner.sweep.dispatch import Launcher
from ssl_runner.sweep.launcher.ray import Ray
from ssl_runner.sweep.launcher.submitit import Local, Slurm
from ssl_runner.sweep.study import PRUNERS, SAMPLERS, Optuna

Tables = Mapping[str, Mapping[str, Callable[..., Any]]]
LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"
SAMPLER, PRUNER = "hydra/sweeper/sampler", "hydra/sweeper/pruner"
LAUNCHERS: Tables = {LAUNCHER: {"local": object, "ray": Ray, "submitit_local": Local, "submitit_slurm": Slurm}}
SWEEPERS: Tables = {SWEEPER: {"grid": object, "optuna": Optuna}, SAMPLER: SAMPLERS, PRUNER: PRUNERS}
DEFAULT = {LAUNCHER: "local", SWEEPER: "grid", SAMPLER: "tpe", PRUNER: "none"}
OWN = {LAUNCHER: "; local is set by sweep.jobs_per_device, sweep.threads", SWEEPER: ""}
JOBLIB = f"{LAUNCHER}=joblib: the local queue does the same; type {LAUNCHER}=local sweep.jobs_per_device=N"


def read_launcher(words: Sequence[str]) -> tuple[Launcher | None, list[str]]:
    """The launcher that was chosen, None for the local queue; and a line for each thing that is wrong."""
    nodes, problems = _read(LAUNCHERS, words)
    if problems or not nodes:
        return None, problems
    try:
        return nodes[LAUNCHER].build(), []
    except ValueError as error:
        return None, [f"hydra.launcher.{error}"]


def read_sweeper(words: Sequence[str]) -> tuple[Optuna | None, list[str]]:
    """The sweeper that was chosen, None for a grid; and a line for each thing that is wrong."""
    nodes, problems = _read(SWEEPERS, words)
    if problems or not nodes:
        return None, problems
    optuna = nodes[SWEEPER].build()
    optuna.sampler, optuna.pruner = nodes[SAMPLER], nodes[PRUNER]
    return optuna, []


def installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _read(tables: Tables, words: Sequence[str]) -> tuple[dict[str, Node], list[str]]:
    """The checked choice in each of the tables; none if that in the first is the runner's own."""
    assignments, problems = read_assignments(words)
    chosen = {group: DEFAULT[group] for group in tables}
    chosen |= {each.key: str(each.value) for each in assignments if "/" in each.key}
    first, name = next(iter(chosen.items()))
    if name == "joblib":
        return {}, [JOBLIB]
    if name in (DEFAULT[first], "basic"):
        line = f"belongs to a {first.partition('/')[2]} that was not chosen; type {first}=...{OWN[first]}"
        return {}, [*problems, *(f"{each.key}: {line}" for each in assignments if each.key != first)]
    if name in tables[first] and not installed(library := name.partition("_")[0]):
        problems.append(f"{first}={name}: needs {library}; type pip install 'ssl-runner[{library}]'")
    nodes = {}
    for group in sorted(chosen, key=len, reverse=True):  # a setting belongs to the longest that it begins with
        prefix, word = f"{group.replace('/', '.')}.", chosen[group]
        own = [each for each in assignments if f"{each.key}.".startswith(prefix)]
        assignments = [each for each in assignments if each not in own]
        if group not in tables:
            problems.append(f"{group}: is no group here; possible are {', '.join(tables)}")
        elif word not in tables[group]:
            possible = tables[group]
            problems.append(f"{group}: given {word}; possible are {', '.join(possible)}{nearest(word, possible)}")
        else:
            content = yaml.safe_load((TREE / group / f"{word}.yaml").read_text()) or {}
            for each in own:
                _set(content, each.key.removeprefix(prefix).split("."), each.value)
            nodes[group], wrong = check(content, tables[group][word], {})
            problems += [f"{prefix}{line}" for line in wrong]
    return nodes, problems


def _set(content: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets a key, and makes the mappings that it lies below; whether it may be there, its constructor says."""
    for word in path[:-1]:
        if not isinstance(content.get(word), dict):
            content[word] = {}
        content = content[word]
    content[path[-1]] = value
