"""Constructor signatures as a schema, and nodes: classes with checked arguments, built when the runtime's are known."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Generic, TypeVar

import pydantic

T = TypeVar("T")
DECLARED = "__declared__"  # holds the parameters of a class that is known from its source alone: see declared.py
UNTYPED = inspect.Parameter.empty  # the annotation of a parameter that has none
# Any is a class since Python 3.11
PLAIN = (int, float, str, bool, bytes, type(None), list, tuple, dict, set, Any, UNTYPED)
UNIONS = (typing.Union, types.UnionType)
MAPPINGS = (dict, Mapping)


class Undecided(Exception):
    """Only the real check can say."""


def undecided(*_: Any) -> Any:
    raise Undecided


class Open:
    """What a library gives, or what rests on one. To ask for its class is to ask what it is."""

    __class__ = property(undecided)  # type: ignore[assignment]


OPEN = Open()


@dataclass(frozen=True)
class Node(Generic[T]):
    """A class and checked arguments for it.

    A parameter annotated `Node[Encoder]` receives the node of an encoder, one annotated `Encoder` the encoder built.
    """

    target: Callable[..., T]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    wants: frozenset[str] = frozenset()  # parameters that the runtime fills

    def build(self, **runtime: Any) -> T:
        """Calls the target with its own arguments, nodes among them built, and those of `runtime` that it wants."""
        return self.target(**build_value(self.arguments), **{name: runtime[name] for name in self.wants})

    def allows_none(self, name: str) -> bool:
        """Whether it can be built with None for what it wants under that name, or without it."""
        return name not in self.wants or type(None) in typing.get_args(parameters(self.target)[name][0])


def build_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: build_value(each) for key, each in value.items()}
    return value.build() if isinstance(value, Node) else value


def parameters(target: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """(annotation, default) by name of what a class or function may be called with."""
    if (declared := getattr(target, DECLARED, None)) is not None:
        return declared
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    hints = typing.get_type_hints(called, include_extras=True)
    return {
        name: (hints.get(name, UNTYPED), parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def place_of(target: Callable[..., Any], word: str = "") -> str:
    """`mine.py, line 7`: where a class's constructor names a parameter, or begins.

    Raises Undecided for a class that is known from its source alone.
    """
    if hasattr(target, DECLARED):
        raise Undecided
    try:
        lines, first = inspect.getsourcelines(target.__init__)  # type: ignore[misc]
    except (OSError, TypeError):  # a dataclass's is made when it is imported
        lines, first = inspect.getsourcelines(target)
    here = next((number for number, line in enumerate(lines) if re.search(rf"\b{word}\b", line)), 0) if word else 0
    return f"{inspect.getsourcefile(target)}, line {first + here}"


def is_parsed(annotation: Any) -> bool:
    """Whether it is a class of ours that is written as text, such as a duration."""
    return isinstance(annotation, type) and callable(getattr(annotation, "parse", None))


def class_of(annotation: Any) -> type | None:
    """The class of ours (not a plain value's) that an annotation asks for, by itself or by name in a mapping."""
    origin = typing.get_origin(annotation)
    if origin in (Node, Annotated, *UNIONS, *MAPPINGS):
        return next((kind for each in typing.get_args(annotation) if (kind := class_of(each)) is not None), None)
    plain = not isinstance(annotation, type) or annotation in PLAIN or origin is not None
    return None if plain or is_parsed(annotation) else annotation


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
    if is_parsed(annotation):
        return Annotated[Any, pydantic.PlainValidator(annotation.parse)]
    if typing.get_origin(annotation) in UNIONS:
        return typing.Union[tuple(with_parsers(each) for each in typing.get_args(annotation))]  # noqa: UP007
    return annotation


def implements(target: type, kind: type) -> bool:
    """Whether a class is of a kind: by inheritance, or by methods of its own if the kind is a protocol."""
    if not getattr(kind, "_is_protocol", False):
        return issubclass(target, kind)
    methods = [n for n, v in vars(kind).items() if callable(v) and (not n.startswith("_") or n == "__call__")]
    defined = {name for base in target.__mro__ if base is not object for name in vars(base)}
    return all(name in defined and callable(getattr(target, name)) for name in methods)  # any class has type.__call__
