"""Type annotations of constructors, read as a schema: what a parameter may be given in a config."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

import pydantic

from ssl_runner.config.node import Node

DECLARED = "__declared__"  # holds the parameters of a class that is known from its source alone: see declared.py
PLAIN = (int, float, str, bool, bytes, type(None), list, tuple, dict, set, Any)  # Any is a class since Python 3.11


def parameters(target: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """(annotation, default) by name of what a class or function may be called with."""
    if (declared := getattr(target, DECLARED, None)) is not None:
        return declared
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    hints = typing.get_type_hints(called, include_extras=True)
    return {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def class_of(annotation: Any) -> type | None:
    """The class of ours (not a plain value's) that an annotation asks for."""
    if typing.get_origin(annotation) in (Node, Annotated):
        return class_of(typing.get_args(annotation)[0])
    if is_union(annotation) or class_of_items(annotation) is not None:
        return next((kind for each in typing.get_args(annotation) if (kind := class_of(each)) is not None), None)
    if not isinstance(annotation, type) or annotation in PLAIN or typing.get_origin(annotation) is not None:
        return None
    return None if callable(getattr(annotation, "parse", None)) else annotation


def class_of_items(annotation: Any) -> type | None:
    """The class of the values of a mapping by name."""
    if typing.get_origin(annotation) in (dict, Mapping):
        return class_of(typing.get_args(annotation)[1])
    return None


def is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def is_optional(annotation: Any) -> bool:
    return is_union(annotation) and type(None) in typing.get_args(annotation)


def choices(annotation: Any) -> list[str]:
    """The words that an annotation lists."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(each) for each in typing.get_args(annotation)]
    return [word for each in typing.get_args(annotation) for word in choices(each)]


@cache
def adapter(annotation: Any) -> "pydantic.TypeAdapter":  # in quotes, since pydantic imports it when it is named
    """What validates a plain value against an annotation."""
    return pydantic.TypeAdapter(with_parsers(annotation), config={"allow_inf_nan": False})


def with_parsers(annotation: Any) -> Any:
    """A class of ours that is written as text, such as a duration, is parsed by its own `parse`."""
    if isinstance(annotation, type) and callable(getattr(annotation, "parse", None)):
        return Annotated[Any, pydantic.PlainValidator(annotation.parse)]  # type: ignore[attr-defined]
    if is_union(annotation):
        return typing.Union[tuple(with_parsers(each) for each in typing.get_args(annotation))]  # noqa: UP007
    return annotation


def implements(target: type, kind: type) -> bool:
    """Whether a class is of a kind: by inheritance, or by methods of its own if the kind is a protocol."""
    if not getattr(kind, "_is_protocol", False):
        return issubclass(target, kind)
    methods = [n for n, v in vars(kind).items() if callable(v) and (not n.startswith("_") or n == "__call__")]
    defined = {name for base in target.__mro__ if base is not object for name in vars(base)}
    return all(name in defined and callable(getattr(target, name)) for name in methods)  # any class has type.__call__
