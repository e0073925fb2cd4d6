"""Config validation against constructor signatures, whole, before anything is built.

The constructor's signature is the schema: a key is a parameter, a value fits the parameter's annotation (ranges and
choices included, checked by pydantic), and `_target_` names a trusted class of the kind that the parameter wants.
"""

import importlib
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic

from ssl_runner.config import node as schema
from ssl_runner.config import trust
from ssl_runner.config.node import Node
from ssl_runner.errors import last_line, nearest

NAME = re.compile(r"\w[\w-]*")
MOST = 3e38  # of any other number: float32, in which we compute, ends at 3.4e38
LARGEST = 2**32 - 1  # of an integer: the largest seed of numpy; larger ones overflow floats and sizes


def load_module(name: str) -> types.ModuleType:
    """Raises ImportError with the last line and the file of whatever goes wrong while it is imported."""
    trust.find_own_package()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
        raise ImportError(str(error) if absent else last_line(error, trust.read_project().source)) from None


def check(
    content: Mapping[str, Any],
    target: Callable[..., Any],
    runtime: Mapping[str, Iterable[str]],
    load: Callable[[str], types.ModuleType] = load_module,
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

    def refuse(self, path: str, words: str) -> Any:
        """Notes a problem. Returns None, which stands for a value that does not fit."""
        self.problems.append(f"{path}: {words}")

    def node(self, content: Mapping[str, Any], target: Callable[..., Any], at: str, filled: frozenset[str]) -> Node:
        """A mapping's keys against a target's parameters, but those that the runtime has `filled`."""
        parameters, prefix = schema.parameters(target), f"{at}." if at else ""
        settable = [name for name in parameters if name not in filled]
        arguments = {}
        for key, value in content.items():
            if key in settable and parameters[key][0] is schema.UNTYPED:
                place = schema.place_of(target, key)
                self.refuse(f"{prefix}{key}", f"has no annotation in {place}; write its type there, as in {key}: float")
            elif key in settable:
                below = filled if at else frozenset(self.runtime.get(key, ()))
                arguments[key] = self.value(value, parameters[key][0], f"{prefix}{key}", below)
            elif key != "_target_" or not at:
                why = "is set by the runner" if key in parameters else "is no setting"
                near = nearest(str(key), settable)
                self.refuse(f"{prefix}{key}", f"{why}; possible here: {_names(settable)}{near}")
        for name in settable:
            if name not in content and parameters[name][1] is inspect.Parameter.empty:
                self.refuse(f"{prefix}{name}", f"is missing; type {prefix}{name}=...")
        return Node(target, arguments, frozenset(parameters) & filled)

    def value(self, value: Any, annotation: Any, path: str, filled: frozenset[str]) -> Any:
        """What a parameter receives: a node, several by name, or a plain value; None if it does not fit."""
        kind = schema.class_of(annotation)
        if kind is None:
            return self.plain(value, annotation, path)
        if value is None and type(None) in typing.get_args(annotation):
            return None
        is_mapping = isinstance(value, Mapping)
        if typing.get_origin(annotation) in schema.MAPPINGS:
            if not is_mapping:
                return self.refuse(path, f"given {_show(value)}, and names with a {kind.__name__} each are wanted")
            wrong = [name for name in value if not NAME.fullmatch(str(name))]  # files are named by them
            for name in map(str, wrong):
                self.refuse(path, f"given the name {_show(name)}; possible are letters, digits, _ and -")
            return {k: self.value(v, kind, f"{path}.{k}", filled) for k, v in value.items() if k not in wrong}
        if not is_mapping or "_target_" not in value:
            return self.refuse(path, f"given {_show(value)}, and a {kind.__name__} with a _target_ is wanted")
        try:
            target = self.target(value["_target_"], kind)
        except ValueError as error:
            return self.refuse(f"{path}._target_", str(error))
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
            # by type(), since some objects will not say what they are
            values = [(n, v) for n, v in vars(module).items() if issubclass(type(v), type)]
            classes = [n for n, v in values if v.__module__ == module_name]
            raise ValueError(f"{module_name} has no {attribute}; it has {_names(classes)}{nearest(attribute, classes)}")
        if not isinstance(target, type):
            raise ValueError(f"given {name}, which is no class, and a {kind.__name__} is wanted")
        if not trust.trusting_package(target.__module__):
            raise ValueError(f"given {name}, which really is of {target.__module__} and not trusted")
        if not schema.implements(target, kind):
            raise ValueError(f"given {name}, which is no {kind.__name__}")
        try:
            schema.parameters(target)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise ValueError(f"an annotation cannot be read ({error}) in {schema.place_of(target)}") from None
        return target

    def plain(self, value: Any, annotation: Any, path: str) -> Any:
        """A value without classes of ours, as pydantic takes it for an annotation; None if it does not fit."""
        if any(isinstance(each, int) and abs(each) > LARGEST for each in flat(value)):
            return self.refuse(path, f"given {_show(value)}, and integers up to {LARGEST} are possible")
        if any(isinstance(each, float) and MOST < abs(each) < math.inf for each in flat(value)):
            return self.refuse(path, f"given {_show(value)}, and numbers up to {MOST:.0e} are possible")
        try:
            # as JSON, a list may be a tuple but "1" no int
            return schema.adapter(annotation).validate_json(json.dumps(value), strict=True)
        except TypeError:
            return self.refuse(path, f"given {_show(value)}, which is no plain value")
        except pydantic.ValidationError as error:
            errors = error.errors()
        own = [str(each["msg"]).removeprefix("Value error, ") for each in errors if each["type"] == "value_error"]
        if own:  # a parser's words stand by themselves
            return self.refuse(path, own[0])
        wanted = list(dict.fromkeys(_wanted(each) for each in errors))[:3]
        guess = nearest(str(value), schema.choices(annotation))
        return self.refuse(path, f"given {_show(value)}, and {' or '.join(wanted)} is wanted{guess}")


def _wanted(error: Any) -> str:
    message = re.sub(r"^(Input should be )?(a valid )?(Input )?", "", error["msg"]).replace("array", "list")
    item = next((part for part in error["loc"] if isinstance(part, int)), None)
    return message if item is None else f"item {item}: {message}"


def flat(value: Any) -> Iterator[Any]:
    """The plain values in a value, its lists and its mappings."""
    if isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from flat(each)
    else:
        yield value


def _names(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _show(value: Any) -> str:
    long = any(isinstance(each, int) and abs(each) > 10**60 for each in flat(value))
    text = "an integer of many digits" if long else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
