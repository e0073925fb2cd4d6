"""A run as a recipe to commit: overrides alone, compared with the run's config, under a header with what came of it."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.config import files
from ssl_runner.config.check import check
from ssl_runner.config.compose import Composer
from ssl_runner.config.grammar import quoted
from ssl_runner.config.migrate import stamped
from ssl_runner.config.override import ABSENT, get, leaves, put
from ssl_runner.recipe.header import header
from ssl_runner.recipe.settings import Choices, choose, complete, diff, is_place, typed_choice, typed_choices, unequal
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run_folder.layout import CONFIG, PEOPLE

ORDER = ("dataset", "model", "optimizer", "regulariser", "device", "evaluator")  # then mounts, and `pretext` last
ALWAYS = ("dataset", "model", "pretext")  # named also if they are the tree's own choice


@dataclass(frozen=True)
class Recipe:
    """A file for conf/experiment/. `left_out`: by their key, the places on a machine that it does not hold."""

    text: str
    left_out: Mapping[str, Any]
    missing: Sequence[str]  # those of them without which it is no job
    settings: int  # keys that it changes beside its choices


def write_recipe(run: Path, name: str, folder: Path | None = None) -> Recipe:
    """The recipe of a run. `folder`: configs of the user's own, as --config-dir names them.

    Raises OSError, or ValueError if the folder holds no run, or one whose config no overrides can give.
    """
    path = run / CONFIG
    if not path.is_file():
        raise ValueError(f"{run} holds no run: there is no {CONFIG} in it")
    content = files.read(path)
    recorded = content.pop("choices", {})
    if problems := check(content, Job, RUNTIME)[1]:
        raise ValueError("\n".join(f"{path}: {line}" for line in problems))
    composer = Composer(folder)
    default = composer.tree([])[0]
    whole = complete(content) | {key: default[key] for key in PEOPLE if key in default}  # a recipe is of many runs
    choices = choose(composer, whole, recorded if isinstance(recorded, dict) else {})
    settings, base = leaves(whole), complete(composer.tree(typed_choices(choices))[0])
    changed = {key: settings[key] for key in diff(whole, base) if key in settings}
    left_out = {key: value for key, value in changed.items() if is_place(key, value)}
    missing = [key for key in left_out if get(base, key) in (ABSENT, "???")]
    overrides: dict[str, Any] = {}
    for key, value in changed.items():
        if key not in left_out or get(base, key) is ABSENT:
            put(overrides, key, "???" if key in left_out else value)
    text = recipe_text(composer, choices, overrides, header(run, name, whole, list(left_out), missing))
    if wrong := unequal(whole, recompose(text, name, left_out, folder)):
        lines = [f"{key}: a recipe of overrides cannot give what the run had" for key in wrong]
        raise ValueError("\n".join([*lines, f"it can be run again as it is: ssl-runner rerun {path}"]))
    return Recipe(text, left_out, missing, len(leaves(overrides)))


def recompose(text: str, name: str, left_out: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """What the recipe gives when it is used, with the places typed. Raises ValueError."""
    with tempfile.TemporaryDirectory() as temporary:
        for each in folder.iterdir() if folder is not None and folder.is_dir() else ():
            if each.name != "experiment":
                (Path(temporary) / each.name).symlink_to(each.resolve())
        (Path(temporary) / "experiment").mkdir()
        (Path(temporary) / "experiment" / f"{name}.yaml").write_text(text, encoding="utf-8")
        typed = [f"{key}={quoted(value)}" for key, value in left_out.items()]
        composed = Composer(Path(temporary)).compose([f"experiment={name}", *typed])
    if composed.problems:
        raise ValueError("\n".join(composed.problems))
    return complete(composed.content)


class Dumper(yaml.SafeDumper):
    """Lists on one line, and texts in quotes if YAML or OmegaConf would read a number."""


Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))
Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[\d_.]+[eE][-+]?\d+$"), list("-+.0123456789"))


def recipe_text(composer: Composer, choices: Choices, overrides: Mapping[str, Any], head: Sequence[str]) -> str:
    own, default = composer.tree([])
    usual: Choices = {**default, "evaluator": list(own["evaluator"]) or "none"}
    mounts = [key for key in choices if "@" in key]
    listed = [key for key in ORDER if key in ALWAYS or choices[key] != usual.get(key)] + [*mounts, "pretext"]
    defaults = [f"  - override /{key}: {typed_choice(choices[key]).replace(',', ', ')}" for key in listed]
    body = yaml.dump(stamped(overrides), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return "\n".join(["# @package _global_", *head, "defaults:", *defaults, body])
