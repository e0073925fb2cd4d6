"""A config checked against the signatures of what it names, whole, before anything is built.

The constructor's signature is the schema: a key is a parameter, a value fits the parameter's annotation (ranges and
choices included, checked by pydantic), and `_target_` names a class of the kind that the parameter wants.
"""

import difflib
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import pydantic

from ssl_runner.config import trust

T = TypeVar("T")


@dataclass(frozen=True)
class Node(Generic[T]):
    """A class and checked arguments for it. `build` adds what only the runtime knows.

    A parameter annotated `Node[Encoder]` receives the node of an encoder, one annotated `Encoder` the encoder built.
    """

    target: Callable[..., T]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    wants: frozenset[str] = frozenset()  # parameters that the runtime fills

    def build(self, **runtime: Any) -> T:
        """Calls the target with its own arguments and those of `runtime` that it wants."""
        arguments = {name: built(value) for name, value in self.arguments.items()}
        return self.target(**arguments, **{name: runtime[name] for name in self.wants})


def built(value: Any) -> Any:
    if isinstance(value, Node):
        return value.build()
    if isinstance(value, dict):
        return {key: built(each) for key, each in value.items()}
    if isinstance(value, list):
        return [built(each) for each in value]
    return value


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
    under_way = _Check(runtime, load)
    return under_way.node(content, target, "", frozenset()), under_way.problems


def nearest(word: str, possible: Iterable[str]) -> str:
    """`; did you mean lr?`, or nothing where no possible word is near."""
    near = difflib.get_close_matches(word, list(possible), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


@dataclass
class _Check:
    """One check under way."""

    runtime: Mapping[str, Iterable[str]]
    load: Callable[[str], types.ModuleType]
    problems: list[str] = field(default_factory=list)

    def node(self, content: Mapping[str, Any], target: Callable[..., Any], at: str, filled: frozenset[str]) -> Node:
        """A mapping's keys against a target's parameters, but those that the runtime has `filled`."""
        parameters = _parameters(target)
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
        """What a parameter receives: a node, several by name, or a plain value; None where it does not fit."""
        kind = _class_of(annotation)
        if kind is None:
            return self.plain(value, annotation, path)
        if value is None and _optional(annotation):
            return None
        item = _class_of_items(annotation)
        if item is not None:
            if not isinstance(value, Mapping):
                self.problems.append(f"{path}: given {_show(value)}, and names with a {item.__name__} each are wanted")
                return None
            return {k: self.value(v, item, f"{path}.{k}", filled) for k, v in value.items()}
        if not isinstance(value, Mapping) or "_target_" not in value:
            self.problems.append(f"{path}: given {_show(value)}, and a {kind.__name__} with a _target_ is wanted")
            return None
        target = self.resolved(value["_target_"], kind, path)
        return None if target is None else self.node(value, target, path, filled)

    def resolved(self, name: Any, kind: type, path: str) -> type | None:
        """The class that `_target_` names, if it may be used and is of the kind that is wanted."""
        where = f"{path}._target_"
        if why := trust.distrust(name):
            self.problems.append(f"{where}: {why}")
            return None
        module_name, _, attribute = name.rpartition(".")
        try:
            module = self.load(module_name)
        except ImportError as error:
            self.problems.append(f"{where}: given {name}, and {module_name} cannot be imported ({error})")
            return None
        found = getattr(module, attribute, None)
        if found is None:
            classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module_name]
            self.problems.append(
                f"{where}: {module_name} has no {attribute}; it has {_names(classes)}{nearest(attribute, classes)}"
            )
            return None
        if not isinstance(found, type):
            self.problems.append(f"{where}: given {name}, which is no class, and a {kind.__name__} is wanted")
            return None
        if not trust.trusting_package(found.__module__):
            self.problems.append(f"{where}: given {name}, which really is of {found.__module__} and not trusted")
            return None
        if not _is_a(found, kind):
            self.problems.append(f"{where}: given {name}, which is no {kind.__name__}")
            return None
        return found

    def plain(self, value: Any, annotation: Any, path: str) -> Any:
        """A value without classes of ours, as pydantic takes it for an annotation; None where it does not fit."""
        try:
            adapter = pydantic.TypeAdapter(_with_parsers(annotation), config={"allow_inf_nan": False})
            # as JSON, a list may be a tuple but "1" no int
            return adapter.validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError as error:
            errors = error.errors()
            own = [str(each["msg"]).removeprefix("Value error, ") for each in errors if each["type"] == "value_error"]
            if own:  # a parser's words stand by themselves
                self.problems.append(f"{path}: {own[0]}")
                return None
            wanted = list(dict.fromkeys(_wanted(each) for each in errors))[:3]
            guess = nearest(str(value), _choices(annotation))
            self.problems.append(f"{path}: given {_show(value)}, and {' or '.join(wanted)} is wanted{guess}")
        except TypeError:
            self.problems.append(f"{path}: given {_show(value)}, which is no plain value")
        return None


def _is_a(found: type, kind: type) -> bool:
    if getattr(kind, "_is_protocol", False):
        methods = [n for n, v in vars(kind).items() if callable(v) and (not n.startswith("_") or n == "__call__")]
        own = {name for base in found.__mro__ if base is not object for name in vars(base)}
        return all(name in own and callable(getattr(found, name)) for name in methods)  # any class has type.__call__
    return issubclass(found, kind)


def _wanted(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    message = message.removeprefix("a valid ").removeprefix("Input ").replace("array", "list")
    inside = [str(part) for part in error["loc"] if isinstance(part, int)]
    return f"item {inside[0]}: {message}" if inside else message


def _with_parsers(annotation: Any) -> Any:
    """A class of ours that is written as text, such as a duration, is parsed by its own `parse`."""
    if isinstance(annotation, type) and callable(getattr(annotation, "parse", None)):
        return Annotated[Any, pydantic.PlainValidator(annotation.parse)]  # type: ignore[attr-defined]
    if _is_union(annotation):
        return typing.Union[tuple(_with_parsers(each) for each in typing.get_args(annotation))]  # noqa: UP007
    return annotation


def _parameters(target: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """(annotation, default) by name of what a class or function may be called with."""
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    hints = typing.get_type_hints(called, include_extras=True)
    return {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _class_of(annotation: Any) -> type | None:
    """The class of ours (not a plain value's) that an annotation asks for."""
    if typing.get_origin(annotation) is Node:
        return _class_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is Annotated:
        return _class_of(typing.get_args(annotation)[0])
    if _is_union(annotation) or _class_of_items(annotation) is not None:
        found = [kind for each in typing.get_args(annotation) if (kind := _class_of(each)) is not None]
        return found[0] if found else None
    plain = (int, float, str, bool, bytes, type(None), list, tuple, dict, set)
    if not isinstance(annotation, type) or annotation in plain or typing.get_origin(annotation) is not None:
        return None
    return None if callable(getattr(annotation, "parse", None)) else annotation


def _class_of_items(annotation: Any) -> type | None:
    if typing.get_origin(annotation) in (dict, Mapping):
        return _class_of(typing.get_args(annotation)[1])
    return None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _optional(annotation: Any) -> bool:
    return _is_union(annotation) and type(None) in typing.get_args(annotation)


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(each) for each in typing.get_args(annotation)]
    return [word for each in typing.get_args(annotation) for word in _choices(each)]


def _names(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
