"""A run as a recipe to commit: overrides alone, held against the run's config, under a header with what came of it."""

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
from ssl_runner.config.migrate import KEY, newest
from ssl_runner.recipe.choices import Choices, choose, shown
from ssl_runner.recipe.header import header
from ssl_runner.recipe.places import leave_out
from ssl_runner.recipe.settings import complete, completed, difference, leaves, unequal
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run_folder.layout import CONFIG

ORDER = ("dataset", "model", "optimizer", "regulariser", "device", "evaluator")  # then mounts, and `pretext` last
ALWAYS = ("dataset", "model", "pretext")  # named also where they are the tree's own choice


@dataclass(frozen=True)
class Recipe:
    """A file for conf/experiment/. `left_out`: by their key, the places on a machine that it does not hold."""

    text: str
    left_out: Mapping[str, Any]
    missing: Sequence[str]  # those of them without which it is no job
    settings: int  # keys that it changes beside its choices


def write_down(run: Path, name: str, folder: Path | None = None) -> Recipe:
    """The recipe of a run. `folder`: configs of the user's own, as --config-dir names them.

    Raises OSError, or ValueError where the folder holds no run, or one whose config no overrides can give.
    """
    path = run / CONFIG
    if not path.is_file():
        raise ValueError(f"{run} holds no run: there is no config.yaml in it")
    content = files.read(path)
    recorded = content.pop("choices", {})
    node, problems = check(content, Job, RUNTIME)
    if problems:
        raise ValueError("\n".join(f"{path}: {line}" for line in problems))
    whole = complete(content, node)
    composer = Composer(folder)
    choices, base = choose(composer, whole, recorded if isinstance(recorded, dict) else {})
    base = completed(base)
    overrides, extra = difference(whole, base)
    left_out, missing = leave_out(overrides, base)
    head = header(run, name, whole, node, left_out, missing)
    text = written(composer, choices, overrides, head)
    given = recomposed(text, name, left_out, folder)
    if wrong := [*extra, *unequal(whole, given)]:
        raise ValueError(
            "\n".join(f"{key}: a recipe of overrides cannot give what the run had" for key in dict.fromkeys(wrong))
            + f"\n{path} is a recipe as it is: copy it to experiment/{name}.yaml in a folder of configs"
        )
    return Recipe(text, left_out, missing, sum(1 for _ in leaves(overrides)))


def recomposed(text: str, name: str, left_out: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """What the recipe gives when it is used, with the places typed. Raises ValueError."""
    with tempfile.TemporaryDirectory() as temporary:
        there = Path(temporary) / "experiment"
        there.mkdir()
        (there / f"{name}.yaml").write_text(text)
        for each in folder.iterdir() if folder is not None and folder.is_dir() else ():
            if each.name != "experiment":
                (Path(temporary) / each.name).symlink_to(each.resolve())
        typed = [f"{key}={quoted(value)}" for key, value in left_out.items()]
        composed = Composer(Path(temporary)).compose([f"experiment={name}", *typed])
    if composed.problems:
        raise ValueError("\n".join(composed.problems))
    return completed(composed.content)


def quoted(value: Any) -> str:
    """A text, or a list of them, in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    text = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), str(value))
    return f"'{text}'"


class Dumper(yaml.SafeDumper):
    """Lists on one line, and texts in quotes where YAML or OmegaConf would read a number."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    try:
        float(value)
    except ValueError:
        return dumper.represent_str(value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'")


Dumper.add_representer(str, _text)
Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def written(composer: Composer, choices: Choices, overrides: Mapping[str, Any], head: Sequence[str]) -> str:
    own, default = composer.tree([])
    usual: Choices = {**default, "evaluator": list(own["evaluator"]) or "none"}
    mounts = [key for key in choices if "@" in key]
    listed = [key for key in ORDER if key in ALWAYS or choices[key] != usual.get(key)] + [*mounts, "pretext"]
    defaults = [f"  - override /{key}: {shown(choices[key]).replace(',', ', ')}" for key in listed]
    body = yaml.dump({KEY: newest(), **overrides}, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return "\n".join(["# @package _global_", *head, "defaults:", *defaults, body])
