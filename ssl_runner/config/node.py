"""Deferred construction: a class from a config with its checked arguments, built when the runtime's are known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

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
        arguments = {name: build_value(value) for name, value in self.arguments.items()}
        return self.target(**arguments, **{name: runtime[name] for name in self.wants})


def build_value(value: Any) -> Any:
    """The value with every node in it built."""
    if isinstance(value, Node):
        return value.build()
    if isinstance(value, dict):
        return {key: build_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [build_value(each) for each in value]
    return value
