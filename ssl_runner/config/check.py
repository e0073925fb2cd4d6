"""Config validation against constructor signatures, whole, before anything is built.

The constructor's signature is the schema: a key is a parameter, a value fits the parameter's annotation (ranges and
choices included, checked by pydantic), and `_target_` names a trusted class of the kind that the parameter wants.
"""

import importlib
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic

from ssl_runner.config import annotation as annotations
from ssl_runner.config import trust
from ssl_runner.config.node import Node
from ssl_runner.errors import nearest

NAME = re.compile(r"\w[\w-]*")


def check(
    content: Mapping[str, Any],
    target: Callable[..., Any],
    runtime: Mapping[str, Iterable[str]],
    load: Callable[[str], types.ModuleType] = importlib.import_module,
) -> tuple[Node, list[str]]:
    """A config's content against a target's signature: the node to build, and one line for each thing that is wrong.

    `runtime` names, for a top-level key, the parameters that the runtime fills in everything below it. `load` gives the
    module of what a `_target_` names, or raises ImportError.
    """
    checker = _Checker(runtime, load)
    return checker.node(content, target, "", frozenset()), checker.problems


@dataclass
class _Checker:
    runtime: Mapping[str, Iterable[str]]
    load: Callable[[str], types.ModuleType]
    problems: list[str] = field(default_factory=list)

    def node(self, content: Mapping[str, Any], target: Callable[..., Any], at: str, filled: frozenset[str]) -> Node:
        """A mapping's keys against a target's parameters, but those that the runtime has `filled`."""
        parameters = annotations.parameters(target)
        settable = [name for name in parameters if name not in filled]
        arguments = {}
        for key, value in content.items():
            if key == "_target_" and at:
                continue
            path = f"{at}.{key}" if at else str(key)
            if key not in settable:
                why = "is set by the runner" if key in parameters else "is no setting"
                self.problems.append(f"{path}: {why}; possible here: {_names(settable)}{nearest(str(key), settable)}")
                continue
            below = filled if at else frozenset(self.runtime.get(str(key), ()))
            arguments[key] = self.value(value, parameters[key][0], path, below)
        for name in settable:
            if name not in content and parameters[name][1] is inspect.Parameter.empty:
                path = f"{at}.{name}" if at else name
                self.problems.append(f"{path}: is missing; type {path}=...")
        return Node(target, arguments, frozenset(parameters) & filled)

    def value(self, value: Any, annotation: Any, path: str, filled: frozenset[str]) -> Any:
        """What a parameter receives: a node, several by name, or a plain value; None if it does not fit."""
        kind = annotations.class_of(annotation)
        if kind is None:
            return self.plain(value, annotation, path)
        if value is None and annotations.is_optional(annotation):
            return None
        item = annotations.class_of_items(annotation)
        if item is not None:
            if not isinstance(value, Mapping):
                self.problems.append(f"{path}: given {_show(value)}, and names with a {item.__name__} each are wanted")
                return None
            wrong = [name for name in value if not NAME.fullmatch(str(name))]  # files are named by them
            for name in map(str, wrong):
                self.problems.append(f"{path}: given the name {_show(name)}; possible are letters, digits, _ and -")
            return {k: self.value(v, item, f"{path}.{k}", filled) for k, v in value.items() if k not in wrong}
        if not isinstance(value, Mapping) or "_target_" not in value:
            self.problems.append(f"{path}: given {_show(value)}, and a {kind.__name__} with a _target_ is wanted")
            return None
        try:
            target = self.target(value["_target_"], kind)
        except ValueError as error:
            self.problems.append(f"{path}._target_: {error}")
            return None
        return self.node(value, target, path, filled)

    def target(self, name: Any, kind: type) -> type:
        """The class that `_target_` names. Raises ValueError if it is not trusted, absent or of another kind."""
        if why := trust.distrust(name):
            raise ValueError(why)
        module_name, _, attribute = name.rpartition(".")
        try:
            module = self.load(module_name)
        except ImportError as error:
            raise ValueError(f"given {name}, and {module_name} cannot be imported ({error})") from None
        target = getattr(module, attribute, None)
        if target is None:
            values = {
                n: v for n, v in vars(module).items() if issubclass(type(v), type)
            }  # some will not say what they are
            classes = [n for n, v in values.items() if v.__module__ == module_name]
            raise ValueError(f"{module_name} has no {attribute}; it has {_names(classes)}{nearest(attribute, classes)}")
        if not isinstance(target, type):
            raise ValueError(f"given {name}, which is no class, and a {kind.__name__} is wanted")
        if not trust.trusting_package(target.__module__):
            raise ValueError(f"given {name}, which really is of {target.__module__} and not trusted")
        if not annotations.implements(target, kind):
            raise ValueError(f"given {name}, which is no {kind.__name__}")
        return target

    def plain(self, value: Any, annotation: Any, path: str) -> Any:
        """A value without classes of ours, as pydantic takes it for an annotation; None if it does not fit."""
        try:
            # as JSON, a list may be a tuple but "1" no int
            return annotations.adapter(annotation).validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError as error:
            errors = error.errors()
            own = [str(each["msg"]).removeprefix("Value error, ") for each in errors if each["type"] == "value_error"]
            if own:  # a parser's words stand by themselves
                self.problems.append(f"{path}: {own[0]}")
                return None
            wanted = list(dict.fromkeys(_wanted(each) for each in errors))[:3]
            guess = nearest(str(value), annotations.choices(annotation))
            self.problems.append(f"{path}: given {_show(value)}, and {' or '.join(wanted)} is wanted{guess}")
        except TypeError:
            self.problems.append(f"{path}: given {_show(value)}, which is no plain value")
        return None


def _wanted(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    message = message.removeprefix("a valid ").removeprefix("Input ").replace("array", "list")
    inside = [str(part) for part in error["loc"] if isinstance(part, int)]
    return f"item {inside[0]}: {message}" if inside else message


def _names(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
