"""From the command line to one resolved config: plain dictionaries, and a line for each thing that is wrong.

Hydra stops at the first mistake in the overrides. Here each one is looked at by itself, so that all are said at once.
"""

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ssl_runner.config import hydra_node
from ssl_runner.config.composed import Composed
from ssl_runner.config.declared import declared_annotation
from ssl_runner.config.files import choice_content, format_of
from ssl_runner.config.grammar import Override
from ssl_runner.config.hydra import Tree, compose_tree, resolve
from ssl_runner.config.migrate import KEY, migrated
from ssl_runner.config.override import apply_override, choice_problems, get, leaves, paths, put, without_unchosen
from ssl_runner.config.recommended import note, recommended_choices, take_recommended
from ssl_runner.config.searchpath import search_folders
from ssl_runner.config.text import as_typed, is_text
from ssl_runner.config.trust import read_project
from ssl_runner.config.words import read_words
from ssl_runner.run_folder.layout import CONFIG, GROUPS

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent / "conf"
TREE = CHECKOUT if (CHECKOUT / CONFIG).exists() else PACKAGE / "conf"  # the latter in an installed wheel


class Composer:
    """Composes configs from folders: one that is given, those of hydra.searchpath, the project's, and our tree."""

    def __init__(self, folder: Path | None = None, name: str = "config", typed: Sequence[str] = ()):
        self.name = name
        self.folders = [*(each.resolve() for each in (folder, read_project().conf) if each and each.is_dir()), TREE]
        self.folders[-1:-1], self._problems = search_folders(typed, self.folders[:-1], name)
        files = [file for place in self.folders for file in place.glob("*/*.yaml")]
        groups = sorted({file.parent.name for file in files} - {"hydra"})
        self.groups = {group: sorted({file.stem for file in files if file.parent.name == group}) for group in groups}
        self._composed: dict[tuple[str, ...], Tree] = {}  # by the choices: jobs of a sweep share them

    def compose(self, overrides: Sequence[str], number: int = 0) -> Composed:
        """One job, and its number in a sweep. Never raises for what the user typed: that is in `problems`."""
        result = Composed(problems=[*self._problems])
        choices, values = self._sort(overrides, result.problems)
        if tree := self._compose([each.text for each in choices], result.problems):
            tree = self._recommend(result, tree, choices, values)
            if any(each.key == "evaluator" for each in choices):
                tree, left = without_unchosen(tree, self.groups["evaluator"])
                result.notes += left
            result.problems += [f"{self.name}: {line}" for line in hydra_node.unused_keys(tree, TREE)]
            settings = hydra_node.sweep_settings(tree, self.folders)
            own = {**hydra_node.file_node(tree), **settings, "job.num": number}
            hydra = self._finish(result, copy.deepcopy(tree.content), tree, [*choices, *values], own)
            result.choices = {group: str(name) for group, name in tree.choices.items() if group in self.groups}
            hydra_node.note(result, tree, hydra, settings, [each.text for each in (*choices, *values)])
        return result

    def change(self, recorded: Mapping[str, Any], overrides: Sequence[str]) -> Composed:
        """A finished config with overrides on top; what is chosen takes the place of what it has, as the tree gives it.
        Settings that are newer than the config, which the tree alone has, may be typed as well.
        """
        result = Composed()
        choices, values = self._sort(overrides, result.problems)
        if any(each.key == "experiment" for each in choices):
            result.problems.append("experiment: a recipe is a job of its own; leave it out, or train it by itself")
        known = own if isinstance(own := recorded.get("choices"), dict) else {}
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
        if tree and "pretext" in typed:
            tree = self._recommend(result, tree, choices, values, beside)
        content = copy.deepcopy(dict(recorded))
        for place in sorted({(each.mount or each.key).removeprefix("_global_.") for each in choices}, key=len):
            put(content, place, get(tree.content if tree else {}, place))
        result.choices = {**known, **{key: value for key, value in typed.items() if isinstance(value, str)}}
        own = (hydra_node.file_node(tree) if tree else {}) | dict.fromkeys(hydra_node.FOLDERS)
        result.folder = self._finish(result, content, tree, [*choices, *values], own)["run.dir"]
        return result

    def tree(self, choices: Sequence[str]) -> tuple[dict[str, Any], dict[str, str | None]]:
        """What choices give by themselves, with `???` if a key is mandatory; and the choice in each group and mount.
        A mount is `augment@pretext.augment`: a group and the place of its choice. Raises ValueError.
        """
        problems: list[str] = []
        if tree := self._compose(choices, problems):
            content, wrong = resolve(tree.content, [], tree)
            content.pop("hydra")
            problems += [f"{self.name}: {key}: {line}" for key, line in wrong.items()]
        if tree is None or problems:
            raise ValueError("\n".join(problems))
        return content, tree.choices

    def expand(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[str]]:
        """The jobs of a sweep in Hydra's grid syntax, each a list of overrides; and what cannot be read."""
        axes: dict[str, Sequence[str]] = {}
        parsed, problems = read_words(overrides, self.groups)
        first = [each.values[0] if each.values else each.text for each in parsed if each.key in self.groups]
        tree = self._compose(first, [])
        for each in parsed:
            texts = tree is not None and is_text(declared_annotation(tree.content, each.key))
            # Of a key typed twice the last counts, as in a single run.
            axes[each.text.partition("=")[0]] = (each.texts if texts else each.values) if each.is_sweep else [each.text]
            if each.is_sweep and not each.values:
                possible = ", ".join(self.groups.get(each.key, [])) or "values, as in a=1,2 or a=range(1,4)"
                problems.append(f"{each.text}: gives a grid no values; possible are {possible}")
        return ([] if problems else [list(job) for job in itertools.product(*axes.values())]), problems

    def _sort(self, overrides: Iterable[str], problems: list[str]) -> tuple[list[Override], list[Override]]:
        """Choices of groups, and values."""
        choices, values, broken = [], [], []
        parsed, wrong = read_words(overrides, self.groups)
        problems += wrong
        for each in parsed:
            if each.key == "experiment" and each.value is None and each.raw is not None and not each.is_sweep:
                continue  # as by default
            if each.key in self.groups:
                unknown = choice_problems(each, self.groups[each.key])
                problems += unknown
                choices += [] if unknown else [each]
                broken += [f"{each.mount or each.key}."] if unknown else []
            elif hydra_node.is_unused(each):
                problems.append(hydra_node.not_used(each.key))
            else:
                values.append(each)
        # Below what cannot be chosen, what is possible cannot be said.
        return choices, [each for each in values if not each.key.startswith(tuple(broken))]

    def _compose(self, choices: Sequence[str], problems: list[str]) -> Tree | None:
        """What choices give, in the newest format."""
        # `experiment` stands in the defaults list, empty; +experiment=NAME means the same to whoever types it.
        key = tuple(each.removeprefix("+") if each.startswith("+experiment=") else each for each in choices)
        if key not in self._composed:
            recipes = [each.partition("=")[2] for each in key if each.startswith("experiment=")]
            try:
                formats = [format_of(self.folders[:-1], f"{self.name}.yaml")]
                formats += [format_of(self.folders, f"experiment/{each}.yaml") for each in recipes[-1:]]
                tree = take_recommended(compose_tree(self.folders, self.name, key))
                content = migrated({**tree.content, KEY: min(formats)}, f"{self.name} with {' '.join(key)}")
                self._composed[key] = dataclasses.replace(tree, content=content)
            except ValueError as error:
                known = str(error).startswith(("experiment/", f"{self.name}.yaml"))
                problems.append(str(error) if known else f"{self.name}: {error}")
        return self._composed.get(key)

    def _recommend(
        self, result: Composed, tree: Tree, choices: list[Override], values: list[Override], beside: Sequence[str] = ()
    ) -> Tree:
        """The tree with what its dataset recommends, if it does; then that is noted."""
        names = self.groups.get("augment", ())
        annotation = partial(declared_annotation, tree.content)
        words = recommended_choices(tree, names, [*choices, *values], self.folders, self.name, annotation)
        result.notes += [note(words, tree.choices)] if words else []
        result.chosen = [*beside, *(each.text for each in choices), *words]
        return self._compose(result.chosen, result.problems) or tree

    def _finish(
        self, result: Composed, content: dict[str, Any], tree: Tree | None, overrides: Sequence[Override],
        own: dict[str, Any]
    ) -> dict[str, Any]:  # fmt: skip
        """Values applied, interpolations resolved; what is missing or wrong is a problem each.

        `own`: values by their keys below `hydra`, before what was typed. Returns them with it, resolved.
        """
        possible, unread = dict(paths(content)) | dict(paths(tree.content if tree else {})), set()
        for each in (each for each in overrides if each.key not in self.groups):
            try:
                if each.key.startswith("hydra."):
                    key = each.key.removeprefix("hydra.")
                    own[key] = as_typed(each, str | None if key in hydra_node.TEXTS else list[str]).value
                else:
                    annotation = declared_annotation(content, each.key)
                    each = as_typed(each, annotation, get(content, each.key))
                    apply_override(content, each, possible, self.groups, partial(choice_content, self.folders))
            except ValueError as error:
                result.problems.append(str(error))
                unread.add(each.key)
        if tree:
            own["job.override_dirname"] = hydra_node.override_dirname(overrides, own)
        every = leaves(content)
        wrong = {key: f"is missing; type {key}=..." for key, v in every.items() if v == "???" and key not in unread}
        if "${" in repr(content) or "${" in repr(own):
            content, unresolved = resolve(content, [key for key in every if key not in wrong], tree, own)
            own, wrong = content.pop("hydra"), wrong | unresolved
        result.problems += [f"{key}: {line}" for key, line in wrong.items()]
        if not wrong:
            result.content = content
        return own
