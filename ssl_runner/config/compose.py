"""From the command line to one resolved config: plain dictionaries, and a line for each thing that is wrong.

Hydra stops at the first mistake in the overrides. Here each one is looked at by itself, so that all are said at once.
"""

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_runner.config.files import format_of
from ssl_runner.config.hydra import Override, Tree, compose_tree, read_overrides, resolve
from ssl_runner.config.migrate import KEY, migrated
from ssl_runner.config.override import apply_override, get, leaves, paths, put
from ssl_runner.errors import nearest
from ssl_runner.run_folder.layout import CONFIG, GROUPS

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent / "conf"
TREE = CHECKOUT if (CHECKOUT / CONFIG).exists() else PACKAGE / "conf"  # the latter in an installed wheel
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


@dataclass
class Composed:
    """A job's config: resolved plain values, the choice made in each group, the folder typed, what is wrong with it."""

    content: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    folder: str | None = None  # hydra.run.dir, if it was typed
    sweep_folder: str | None = None  # hydra.sweep.dir, likewise
    problems: list[str] = field(default_factory=list)  # a line each; with any, the config is not to be used
    decided: bool = False  # whether the problems are all that the check would find
    where: str = ""  # begins each line about a config that was read
    origin: Path | None = None  # of a recorded run: the folder in which it was begun
    start: Path | None = None  # the folder from which its relative paths start; None for the current one

    @property
    def refused(self) -> bool:
        """Whether all is said, and torch need not be imported."""
        return bool(self.problems) and self.decided

    @property
    def record(self) -> dict[str, Any]:
        """The content with the choices in it, as a run folder has it."""
        own = self.content.get("choices", {})
        return {**self.content, "choices": {**own, **self.choices} if isinstance(own, dict) else own}


class Composer:
    """Composes configs from a tree of YAML files; a folder given beside it is looked in first."""

    def __init__(self, folder: Path | None = None, name: str = "config"):
        self.name = name
        self.folders = [*([folder.resolve()] if folder is not None and folder.is_dir() else []), TREE]
        names: dict[str, set[str]] = {}
        for file in (file for place in self.folders for file in place.glob("*/*.yaml")):
            names.setdefault(file.parent.name, set()).add(file.stem)
        self.groups = {group: sorted(names[group]) for group in sorted(names) if group != "hydra"}
        self._composed: dict[tuple[str, ...], Tree] = {}  # by the choices: jobs of a sweep share them

    def compose(self, overrides: Sequence[str]) -> Composed:
        """One job. Never raises for what the user typed: that is in `problems`."""
        result = Composed()
        choices, values = self._sort(overrides, result.problems)
        if tree := self._compose([each.text for each in choices], result.problems):
            self._finish(result, copy.deepcopy(tree.content), tree, values)
            result.choices = {group: str(name) for group, name in tree.choices.items() if group in self.groups}
        return result

    def change(self, recorded: Mapping[str, Any], overrides: Sequence[str]) -> Composed:
        """A finished config with overrides on top; what is chosen takes the place of what it has, as the tree gives it.

        Settings that are newer than the config, which the tree alone has, may be typed as well.
        """
        result = Composed()
        choices, values = self._sort(overrides, result.problems)
        if any(each.key == "experiment" for each in choices):
            result.problems.append("experiment: a recipe is a job of its own; leave it out, or train it by itself")
        own = recorded.get("choices")
        known = own if isinstance(own, dict) else {}
        typed = {each.key: each.value for each in choices if not each.mount}
        # What is mounted below a choice can be chosen only beside it.
        beside = [f"{k}={known[k]}" for k in GROUPS if k not in typed and known.get(k) in self.groups[k]]
        measured = [each for each in recorded.get("evaluator") or () if each in self.groups["evaluator"]]
        if measured and "evaluator" not in typed:
            beside.append(f"evaluator=[{','.join(measured)}]")
        wrong: list[str] = []
        tree = self._compose([*beside, *(each.text for each in choices)], wrong)
        if tree is None and choices:
            result.problems += wrong
            return result
        content = copy.deepcopy(dict(recorded))
        for place in sorted({(each.mount or each.key).removeprefix("_global_.") for each in choices}, key=len):
            put(content, place, get(tree.content if tree else {}, place))
        result.choices = {**known, **{key: value for key, value in typed.items() if isinstance(value, str)}}
        self._finish(result, content, tree, values)
        return result

    def tree(self, choices: Sequence[str]) -> tuple[dict[str, Any], dict[str, str | None]]:
        """What choices give by themselves, with `???` if a key is mandatory; and the choice in each group and mount.

        A mount is `augment@pretext.augment`: a group and the place of its choice. Raises ValueError.
        """
        problems: list[str] = []
        if tree := self._compose(choices, problems):
            content, wrong = resolve(tree.content, [], tree)
            problems += [f"{self.name}: {key}: {line}" for key, line in wrong.items()]
        if tree is None or problems:
            raise ValueError("\n".join(problems))
        return content, tree.choices

    def expand(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[str]]:
        """The jobs of a sweep in Hydra's grid syntax, each a list of overrides; and what cannot be read."""
        axes: dict[str, Sequence[str]] = {}
        parsed, problems = read_overrides(overrides, self.groups)
        for each in parsed:
            # Of a key typed twice the last counts, as in a single run.
            axes[each.text.partition("=")[0]] = each.values if each.is_sweep else [each.text]
            if each.is_sweep and not each.values:
                possible = ", ".join(self.groups.get(each.key, [])) or "values, as in a=1,2 or a=range(1,4)"
                problems.append(f"{each.text}: gives a grid no values; possible are {possible}")
        return ([] if problems else [list(job) for job in itertools.product(*axes.values())]), problems

    def _sort(self, overrides: Iterable[str], problems: list[str]) -> tuple[list[Override], list[Override]]:
        """Choices of groups, and values."""
        choices, values = [], []
        parsed, wrong = read_overrides(overrides, self.groups)
        problems += wrong
        for each in parsed:
            if each.is_sweep:
                problems.append(f"{each.text}: is a sweep over several values; type -m to run it")
            elif each.key == "experiment" and each.value is None and each.action != "DEL":
                continue  # as by default
            elif each.key in self.groups:
                unknown = self._unknown_choices(each)
                problems += unknown
                choices += [] if unknown else [each]
            elif each.key.startswith("hydra.") and each.key not in FOLDERS:
                problems.append(f"{each.key}: is not used here; possible are {', '.join(FOLDERS)}")
            else:
                values.append(each)
        return choices, values

    def _unknown_choices(self, override: Override) -> list[str]:
        """A line for each word that is no choice of its group."""
        group, value, options = override.key, override.value, self.groups[override.key]
        if override.action == "DEL":
            return []  # what is then missing is for the check to say
        words = value if isinstance(value, list) and group == "evaluator" else [value]
        unknown = ["null" if word is None else str(word) for word in words if str(word) not in options]
        return [f"{group}: given {each}; possible are {', '.join(options)}{nearest(each, options)}" for each in unknown]

    def _compose(self, choices: Sequence[str], problems: list[str]) -> Tree | None:
        """What choices give, in the newest format."""
        # `experiment` stands in the defaults list, empty; +experiment=NAME means the same to whoever types it.
        key = tuple(each.removeprefix("+") if each.startswith("+experiment=") else each for each in choices)
        if key not in self._composed:
            recipes = [each.partition("=")[2] for each in key if each.startswith("experiment=")]
            try:
                formats = [format_of(self.folders[:-1], f"{self.name}.yaml")]
                formats += [format_of(self.folders, f"experiment/{each}.yaml") for each in recipes[-1:]]
                tree = compose_tree(self.folders, self.name, key)
                content = migrated({**tree.content, KEY: min(formats)}, f"{self.name} with {' '.join(key)}")
                self._composed[key] = dataclasses.replace(tree, content=content)
            except ValueError as error:
                known = str(error).startswith(("experiment/", f"{self.name}.yaml"))
                problems.append(str(error) if known else f"{self.name}: {error}")
        return self._composed.get(key)

    def _finish(self, result: Composed, content: dict[str, Any], tree: Tree | None, values: Iterable[Override]) -> None:
        """Values applied, interpolations resolved; what is missing or wrong is a problem each."""
        possible = dict(paths(content)) | dict(paths(tree.content if tree else {}))
        content["hydra"] = {"run": {"dir": None}, "sweep": {"dir": None}}
        for each in values:
            try:
                apply_override(content, each, possible, self.groups)
            except ValueError as error:
                result.problems.append(str(error))
        every = leaves(content)
        wrong = {key: f"is missing; type {key}=..." for key, value in every.items() if value == "???"}
        if "${" in repr(content):
            content, unresolved = resolve(content, [key for key in every if key not in wrong], tree)
            wrong |= unresolved
        result.problems += [f"{key}: {line}" for key, line in wrong.items()]
        if not wrong:
            folders = [each["dir"] for each in content.pop("hydra").values()]
            result.folder, result.sweep_folder = (None if each is None else str(each) for each in folders)
            result.content = content
