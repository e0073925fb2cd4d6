"""What stands in the place of a library where only signatures are wanted: it can be named, and says nothing."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

ABSENT = {"ImportError", "ModuleNotFoundError", "AttributeError"}


class Unknown(BaseException):
    """Only a library could say. No Exception, so that no code on the way here takes it for an answer."""


class Inert:
    """What stands for anything of a library: an attribute, item, call or sum of it is another, and no fact is known."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __getattr__(self, name: str) -> "Inert":
        if name.startswith("__") and name != "__version__":  # protocols with a special name are not fulfilled
            raise AttributeError(name)
        require_certain(sys._getframe(1))
        return Inert(f"{self.name}.{name}")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (Module,) if self.name == "torch.nn.Module" else (Foreign,)

    def __eq__(self, other: object) -> bool:
        if other is None or isinstance(other, str | bytes | int | float | complex | tuple | list | dict | set):
            raise Unknown(self.name)
        return self is other  # typing compares what it is given

    __hash__ = object.__hash__  # and keeps it

    def _unknown(self, *arguments: Any) -> Any:
        raise Unknown(self.name)

    __getitem__ = __neg__ = __pos__ = __invert__ = __abs__ = __round__ = __call__
    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = __call__
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = __call__
    __and__ = __or__ = __xor__ = __rand__ = __ror__ = __rxor__ = __call__
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __contains__ = _unknown
    __iter__ = __next__ = __reversed__ = __setitem__ = __delitem__ = __enter__ = __exit__ = _unknown
    __int__ = __float__ = __complex__ = __index__ = __str__ = __bytes__ = __fspath__ = _unknown
    __instancecheck__ = __subclasscheck__ = __get_pydantic_core_schema__ = _unknown
    __dict__ = property(_unknown)  # type: ignore[assignment]


class Module:
    """What is known of torch.nn.Module: it takes any arguments, none of which is a setting."""

    def __init__(self, *args: Any, **kwargs: Any): ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Foreign:
    """A base class of a library: what is inherited from it is not known."""


def require_certain(frame: FrameType) -> None:
    """Raises Unknown where the code that asks for something of a library knows what to do where there is none."""
    if ABSENT.intersection(frame.f_code.co_names):
        raise Unknown(frame.f_code.co_qualname)


def _asking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that wants a fact of its first argument; `getattr` only where it is given a default."""

    def ask(thing: Any, *arguments: Any) -> Any:
        if isinstance(thing, Inert) and (function is not getattr or len(arguments) > 1):
            raise Unknown(thing.name)
        return function(thing, *arguments)

    return ask


ASKING = {function.__name__: _asking(function) for function in (callable, getattr, hasattr)}
