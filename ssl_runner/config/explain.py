"""`GROUP=CHOICE --help` and `KEY --help`: type, range, unit, default, meaning and source of settings. No torch."""

import re
from collections.abc import Sequence

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.declared import ROOT, declared_module
from ssl_runner.config.describe import (
    Setting,
    annotated,
    describe_choices,
    describe_settings,
    describe_type,
    file_of,
    key_comments,
    target_of,
)
from ssl_runner.config.files import choice_content
from ssl_runner.config.grammar import Override, encoded
from ssl_runner.config.hydra_node import HYDRA_KEYS
from ssl_runner.config.node import parameters
from ssl_runner.config.override import choice_problems, get, unknown_key
from ssl_runner.config.words import read_words
from ssl_runner.run_folder.layout import CONFIG

HEAD = Setting("setting", "type", "default", "meaning")
DURATION = "ep (epochs), st (optimizer steps), % (of the run)"
JOB_LINE = re.compile(r"^([a-z_]+): +(\S.*?)(?: +# (.*))?$", re.MULTILINE)
FIELD = re.compile(r"^    (\w+): .* = (.*?)  # (.*)$", re.MULTILINE)


def explain(composer: Composer, words: Sequence[str]) -> tuple[str, list[str]]:
    """What is known of the choices and keys that are typed; and a line for each that is none. Neither: the usage."""
    keys = [word for word in words if "=" not in word]
    typed, problems = read_words([word for word in words if "=" in word], composer.groups)
    choices = [each for each in typed if each.key in composer.groups]
    problems += [line for each in choices for line in choice_problems(each, composer.groups[each.key])]
    if problems:
        return "", problems
    keys += [] if choices else [each.key for each in typed]
    texts, chosen = [], [each.text for each in choices]
    try:
        if keys:
            texts = [explain_key(composer, key, chosen) for key in keys]
        else:
            texts = [explain_choice(composer, each, str(name), chosen) for each in choices for name in names_of(each)]
    except ValueError as error:
        return "", str(error).splitlines()
    return "\n".join(texts), []


def names_of(choice: Override) -> list[str]:
    return choice.value if isinstance(choice.value, list) else [choice.value]


def explain_choice(composer: Composer, choice: Override, name: str, words: Sequence[str]) -> str:
    """A choice's file if it is a recipe, or what it is and a line for each of its settings."""
    if choice.key == "experiment":
        return file_of(composer, f"experiment/{name}").read_text(encoding="utf-8")
    place = (choice.mount or choice.key).removeprefix("_global_.")
    place = f"{place}.{name}" if choice.key == "evaluator" else place
    settings = describe_settings(composer, choice.key, name, place, words)
    title = f"{choice.key}={name}: {describe_choices(composer, choice.key)[name]}"
    return "\n".join([title, "", *table([HEAD, *settings] if settings else []), ""])


def table(rows: Sequence[Setting]) -> list[str]:
    wide = [max(len(each[column]) for each in rows) for column in range(3)] if rows else []
    padded = [[text.ljust(size) for text, size in zip(row, wide, strict=False)] for row in rows]
    return ["  ".join(["", *cells, row.meaning]).rstrip() for cells, row in zip(padded, rows, strict=True)]


def explain_key(composer: Composer, key: str, words: Sequence[str]) -> str:
    """A setting of the job that choices give, or of a sweep, or of Hydra's. Raises ValueError if there is none."""
    if key in composer.groups:
        lines = describe_choices(composer, key)
        wide = max(map(len, lines))
        listed = (f"  {name:{wide}}  {line}".rstrip() for name, line in lines.items())
        return "\n".join([f"{key}=NAME, one of", *listed, ""])
    rows = {each.key: (each, source) for each, source in settings_of(composer, words)}
    if key in rows:
        each, source = rows[key]
        unit = DURATION if each.type.startswith("duration") else ""
        lines = {"type": each.type, "unit": unit, "default": each.default, "meaning": each.meaning, "source": source}
        return "\n".join([key, *(f"  {name:8} {text}" for name, text in lines.items() if text), ""])
    below = [each for name, (each, _) in rows.items() if name.startswith(f"{key}.")] or with_others(composer, key)
    if not below:
        raise ValueError(unknown_key(Override(key, key, None, "CHANGE"), rows, composer.groups))
    return "\n".join([key, *table([HEAD, *below]), ""])


def with_others(composer: Composer, key: str) -> list[Setting]:
    """What a key is with the choices of its group that have it and were not chosen, from their files alone."""
    group, _, rest = key.partition(".")
    rows = []
    for name in composer.groups.get(group, ()):
        content = choice_content(composer.folders, f"{group}/{name}")
        comments = dict(key_comments(composer, f"{group}/{name}"))
        node, last = (content.get(name), rest.removeprefix(f"{name}.")) if group == "evaluator" else (content, rest)
        if isinstance(node, dict) and last in node and not isinstance(node[last], dict):
            word = f"{group}=[{name}]" if group == "evaluator" else f"{group}={name}"
            rows.append(Setting(word, annotated(target_of(node), last), encoded(node[last]), comments.get(last, "")))
        elif group == "evaluator" and rest == name:
            rows += describe_settings(composer, group, name, key, [f"{group}=[{name}]"])
    return rows


def settings_of(composer: Composer, words: Sequence[str]) -> list[tuple[Setting, str]]:
    """Every setting of the job that choices give, of a sweep and of Hydra's node; and where it is declared."""
    content, choices = composer.tree(words)
    rows = [(row, "conf/config.yaml") for row in job_settings()]
    rows += [(row, "ssl_runner/sweep/settings.py") for row in sweep_settings()]
    rows += [(Setting(f"hydra.{key}", "", "", meaning), "Hydra's own") for key, meaning in HYDRA_KEYS.items()]
    choices |= {f"evaluator@evaluator.{name}": name for name in content["evaluator"]}  # a list is no choice to Hydra
    for mount, name in choices.items():
        group, _, place = mount.partition("@")
        if name is not None and group in composer.groups:
            at = (place or group).removeprefix("_global_.")
            source = f"conf/{group}/{name}.yaml, {target_of(get(content, at))}"
            rows += [(row, source) for row in describe_settings(composer, group, name, at, words)]
    return rows


def job_settings() -> list[Setting]:
    """The settings of a job that belong to no group, as config.yaml has them."""
    declared, rows = parameters(declared_module("ssl_runner.run.job").Job), []
    for match in JOB_LINE.finditer((TREE / CONFIG).read_text(encoding="utf-8")):
        rows.append(Setting(match[1], describe_type(declared[match[1]][0]), match[2], match[3] or ""))
    return rows


def sweep_settings() -> list[Setting]:
    """The settings of a sweep, as its class has them."""
    module = "ssl_runner.sweep.settings"
    declared, rows = parameters(declared_module(module).Settings), []
    for match in FIELD.finditer(ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")):
        if match[1] in declared:
            default, meaning = (each.strip('"').replace("None", "null") for each in match.group(2, 3))
            rows.append(Setting(f"sweep.{match[1]}", describe_type(declared[match[1]][0]), default, meaning))
    return rows
