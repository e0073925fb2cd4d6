"""Choices of groups and their settings in words: from YAML comments, docstrings and signatures, without torch."""

import ast
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import declared_module, file_of_module
from ssl_runner.config.files import parse_yaml
from ssl_runner.config.grammar import encoded
from ssl_runner.config.node import OPEN, UNIONS, UNTYPED, class_of, is_parsed, parameters
from ssl_runner.config.override import get
from ssl_runner.config.recommended import USUAL

BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
WORDS = {bool: "true|false", int: "int", float: "float", str: "text", type(None): "null", UNTYPED: ""}
COMMENT = re.compile(r"( *)(\w+):.*?\s#\s+(.*)")


class Setting(NamedTuple):
    """A key of a config in words."""

    key: str
    type: str  # with its range
    default: str
    meaning: str


def describe_choices(composer: Composer, group: str) -> dict[str, str]:
    """A line for each choice: what its class does, with the settings that tell choices of one class apart.

    If they have a comment above them, the comment. An evaluator's class says what it returns; its module, what it is.
    """
    files = {name: file_of(composer, f"{group}/{name}") for name in composer.groups[group]}
    nodes = {name: parse_yaml(file.read_text(encoding="utf-8")) or {} for name, file in files.items()}
    lines = {}
    for name, file in files.items():
        target, comment = target_of(nodes[name]), head_comment(file)
        alike = [node for node in nodes.values() if target and target_of(node) == target]
        words = comment if len(alike) > 1 else ""
        words = words or first_sentence(docstring_of(target, whole=group == "evaluator")) or comment
        if len(alike) > 1 and not comment:
            own = {key: value for key, value in nodes[name].items() if any(each.get(key) != value for each in alike)}
            words += f" {', '.join(f'{key}={value}' for key, value in own.items())}"
        lines[name] = textwrap.shorten(words, 120, placeholder=" ...")
    return lines


def describe_settings(composer: Composer, group: str, name: str, place: str, choices: Sequence[str]) -> list[Setting]:
    """The settings of a choice that is mounted at a place by the words `choices`. Raises ValueError if it cannot be."""
    tree, mounts = composer.tree(choices)
    node, settings = get(tree, place), []
    if not isinstance(node, Mapping):
        return []
    target = target_of(node)
    docstring, comments = docstring_of(target), dict(key_comments(composer, f"{group}/{name}"))
    for key, value in ((key, value) for key, value in node.items() if key != "_target_"):
        at, meaning = f"{place}.{key}", comments.get(key) or documented(docstring, key)
        if recipe := mounts.get(f"augment@{at}"):
            recommended = recipe == USUAL and at.startswith("pretext.")
            how = f"augment@{at}=NAME" + (", by default what the dataset recommends" if recommended else "")
            settings.append(Setting(at, "recipe of views", recipe, "; ".join(filter(None, (meaning, how)))))
        else:  # a mapping is of nodes, each mounted by its name
            shown = ", ".join(value) if isinstance(value, Mapping) else encoded(value)
            settings.append(Setting(at, annotated(target, key), shown, meaning))
    return settings


def file_of(composer: Composer, name: str) -> Path:
    """The YAML of `group/choice`, in the first folder that has it."""
    return next(file for folder in composer.folders if (file := folder / f"{name}.yaml").is_file())


def target_of(node: Any) -> str:
    """The class that a node names, or the node that stands alone in it, as an evaluator's does in its file."""
    if not isinstance(node, Mapping):
        return ""
    inner = [each["_target_"] for each in node.values() if isinstance(each, Mapping) and "_target_" in each]
    return str(node.get("_target_") or (inner[0] if len(inner) == 1 else ""))


def head_comment(file: Path) -> str:
    """The lines of comment that a file begins with, up to the first sentence's end; what is typed is left out."""
    lines = re.match(r"(#.*\n)*", file.read_text(encoding="utf-8"))[0].splitlines()  # type: ignore[index]
    words = [line.lstrip("# ") for line in lines if not re.match(r"#\s*(@package|ssl-runner )", line)]
    return first_sentence(" ".join(words))


def key_comments(composer: Composer, name: str) -> Iterator[tuple[str, str]]:
    """The comment beside each key of a choice's file, those of the files that it builds on first."""
    text = file_of(composer, name).read_text(encoding="utf-8")
    for other in (parse_yaml(text) or {}).get("defaults", ()):
        if isinstance(other, str) and other != "_self_":
            yield from key_comments(composer, f"{name.partition('/')[0]}/{other.partition('@')[0]}")
    inner = re.search(r"^( +)_target_:", text, re.MULTILINE)
    for match in filter(None, map(COMMENT.fullmatch, text.splitlines())):
        if match[1] == (inner[1] if inner else ""):
            yield match[2], match[3]


def docstring_of(target: str, whole: bool = False) -> str:
    """The docstring of a class of ours, or the whole module's, read from its source."""
    module, _, name = target.rpartition(".")
    if (file := file_of_module(module)) is None:
        return ""
    try:
        source = ast.parse(file.read_bytes())
    except SyntaxError:  # of a user's file: to run it says where
        return ""
    classes = [each for each in source.body if isinstance(each, ast.ClassDef) and each.name == name]
    return next((ast.get_docstring(each) or "" for each in ([source] if whole else classes)), "")


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s+(?=[A-Z`0-9])|\n\n", text.strip())[0].replace("\n", " ")


def documented(docstring: str, key: str) -> str:
    """What a docstring says of a parameter, in `key: words.` or `key, other: words.`"""
    match = re.search(rf"(?:^|[.\n]\s*)(?:\w+, )*{key}(?:, \w+)*: ((?:[^.]|\.(?=\S))+)", docstring)
    return " ".join(match[1].split()) if match else ""


def annotated(target: str, key: str) -> str:
    """The type and range of a class's parameter; nothing if its source does not tell."""
    module, _, name = target.rpartition(".")
    try:
        return describe_type(parameters(getattr(declared_module(module), name))[key][0])
    except Exception:  # a class of a library, or of another package
        return ""


def describe_type(annotation: Any) -> str:
    """An annotation in words, as in `float > 0` or `cosine|step|constant`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is OPEN or annotation is Any:
        return ""
    if origin is Annotated:
        limits = {name: v for each in inner[1:] for name in BOUNDS if (v := getattr(each, name, None)) is not None}
        if len(limits) < 2:
            return " ".join([describe_type(inner[0]), *(f"{BOUNDS[name]} {v:g}" for name, v in limits.items())])
        (low, first), (high, last) = limits.items()
        opening, closing = "[" if low == "ge" else "(", "]" if high == "le" else ")"
        return f"{describe_type(inner[0])} in {opening}{first:g}, {last:g}{closing}"
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin in UNIONS:
        return " or ".join(map(describe_type, inner))
    if origin is tuple:
        items = "list" if inner[-1] is ... else str(len(inner))
        return f"{items} of {describe_type(inner[0])}"
    if is_parsed(annotation):
        return "duration"
    kind = class_of(annotation)
    return kind.__name__ if kind else WORDS.get(annotation, str(annotation))
