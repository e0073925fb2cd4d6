"""Launchers and sweepers by name: the values stand in a YAML of conf/hydra/, what they may be in a constructor."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import yaml

from ssl_runner.config.check import check
from ssl_runner.config.compose import TREE
from ssl_runner.config.grammar import Override, read_overrides
from ssl_runner.config.node import OPEN, Node, parameters
from ssl_runner.config.override import put
from ssl_runner.config.text import one_value
from ssl_runner.errors import nearest
from ssl_runner.sweep.launcher.ray import Ray
from ssl_runner.sweep.launcher.submitit import Local, Slurm
from ssl_runner.sweep.settings import key_of
from ssl_runner.sweep.study import PRUNERS, SAMPLERS, Optuna

Tables = Mapping[str, Mapping[str, Callable[..., Any]]]
LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"
SAMPLER, PRUNER = "hydra/sweeper/sampler", "hydra/sweeper/pruner"
LAUNCHERS: Tables = {LAUNCHER: {"local": object, "ray": Ray, "submitit_local": Local, "submitit_slurm": Slurm}}
SWEEPERS: Tables = {SWEEPER: {"grid": object, "optuna": Optuna}, SAMPLER: SAMPLERS, PRUNER: PRUNERS}
DEFAULT = {LAUNCHER: "local", SWEEPER: "grid", SAMPLER: "tpe", PRUNER: "none"}
GPUS = {"submitit": "gpus_per_node", "ray": "ray.remote.num_gpus"}  # settings by which a launcher asks for a job's
OWN = {LAUNCHER: "; local is set by sweep.jobs_per_device, sweep.devices_per_job, sweep.threads", SWEEPER: ""}
JOBLIB = f"{LAUNCHER}=joblib: the local queue does the same; type {LAUNCHER}=local sweep.jobs_per_device=N"


def with_gpus(words: Sequence[str], count: int | None) -> list[str]:
    """The words of a launcher, and before them the setting by which it asks for a job's GPUs: a typed one wins."""
    chosen = next((word.partition("=")[2] for word in reversed(words) if key_of(word) == LAUNCHER), DEFAULT[LAUNCHER])
    key = GPUS.get(chosen.partition("_")[0])
    return [*([f"hydra.launcher.{key}={count}"] if key and count else []), *words]


def read_choice(tables: Tables, words: Sequence[str]) -> tuple[Any, list[str]]:
    """What was chosen in the first of the tables, with the nodes of the choices in the others as attributes.

    None if it is the runner's own, or if something is wrong: a line for each such thing.
    """
    assignments, problems = read_overrides(words)
    chosen = {group: DEFAULT[group] for group in tables}
    chosen |= {each.key: str(each.raw if each.value is None else each.value) for each in assignments if "/" in each.key}
    first, name = next(iter(chosen.items()))
    if name == "joblib":
        return None, [JOBLIB]
    if name in (DEFAULT[first], "basic"):
        line = f"belongs to a {first.partition('/')[2]} that was not chosen; type {first}=...{OWN[first]}"
        return None, [*problems, *(f"{each.key}: {line}" for each in assignments if each.key != first)]
    if name in tables[first] and not find_spec(library := name.partition("_")[0]):
        problems.append(f"{first}={name}: needs {library}; type pip install 'ssl-runner[{library}]'")
    nodes = {}
    for group in sorted(chosen, key=len, reverse=True):  # a setting belongs to the longest that it begins with
        word, possible = chosen[group], tables.get(group, {})
        own = [each for each in assignments if f"{each.key}.".startswith(prefix_of(group))]
        assignments = [each for each in assignments if each not in own]
        if group not in tables:
            problems.append(f"{group}: is no group here; possible are {', '.join(tables)}")
        elif word not in possible:
            problems.append(f"{group}: given {word}; possible are {', '.join(possible)}{nearest(word, possible)}")
        else:
            nodes[group], wrong = read_node(group, word, possible[word], own)
            problems += wrong
    try:
        built = None if problems else nodes.pop(first).build()
    except ValueError as error:
        return None, [f"{prefix_of(first)}{error}"]
    for group, node in nodes.items() if built else ():
        setattr(built, group.rpartition("/")[2], node)
    return built, problems


def read_node(
    group: str, name: str, target: Callable[..., Any], assignments: Sequence[Override]
) -> tuple[Node, list[str]]:
    """A choice with the values of its YAML, and over them those that were typed, checked by its constructor."""
    content, problems = yaml.safe_load((TREE / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}, []
    for each in assignments:
        key = each.key.removeprefix(prefix_of(group))
        try:
            put(content, key, one_value(each, OPEN if "." in key else parameters(target).get(key, (OPEN,))[0]))
        except ValueError as error:
            problems.append(str(error))
    node, wrong = check(content, target, {})
    return node, [*problems, *(f"{prefix_of(group)}{line}" for line in wrong)]


def prefix_of(group: str) -> str:
    """What the keys of a choice's settings begin with."""
    return f"{group.replace('/', '.')}."
