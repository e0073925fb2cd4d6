"""A config against the signatures of our own modules, without the seconds that importing torch takes.

A signature needs the contract, `Literal` and `Annotated`, and nothing of torch. So the code of our modules is run once
more, in modules that nobody else sees, with an inert thing in the place of every library but the standard one. What is
known so may only refuse: of whatever depends on a library nothing is said, and what passes is checked for real.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from ssl_runner import schema

PACKAGE = Path(__file__).resolve().parent
OWN = f"{PACKAGE.name}."
REAL = {*sys.stdlib_module_names, "annotated_types", "pydantic"}


def refused(content: Mapping[str, Any], job: str = f"{OWN}job") -> list[str] | None:
    """What the signatures find wrong with a config, a line each; None where that takes a library to say."""
    try:
        sources = _sources()
        for name in targets(content):
            sources.require_plain(name)
        module = sources.load(job)
        return schema.check(content, module.Job, module.RUNTIME, sources.load)[1]
    except Exception:  # of code that does more on import than inert things allow: the real check decides
        return None


@cache
def _sources() -> "Sources":
    return Sources()


def targets(content: Any) -> Iterator[Any]:
    """Every `_target_` of a config."""
    if isinstance(content, Mapping):
        yield from (value for key, value in content.items() if key == "_target_")
    for value in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from targets(value)


class Inert:
    """What stands for anything of a library: an attribute, item, call or sum of it is another."""

    def __init__(self, name: str):
        self.name = name

    def __getattr__(self, name: str) -> "Inert":
        if name.startswith("__"):  # protocols that are asked for by a special name are not fulfilled
            raise AttributeError(name)
        return Inert(f"{self.name}.{name}")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (Module,) if self.name == "torch.nn.Module" else (Foreign,)

    def __iter__(self) -> Iterator[Any]:
        return iter(())


for each in ("getitem", "or", "ror", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg"):
    setattr(Inert, f"__{each}__", Inert.__call__)


class Module:
    """What is known of torch.nn.Module: it takes any arguments, none of which is a setting."""

    def __init__(self, *args: Any, **kwargs: Any): ...


class Foreign:
    """A base class of a library: what is inherited from it is not known."""


class Sources:
    """Our modules by name, each run once, beside those in `sys.modules` and unknown to them."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {schema.__name__: schema}  # Node is the one that the check knows
        self.builtins = {**vars(builtins), "__import__": self._import}

    def require_plain(self, name: Any) -> None:
        """Raises ValueError where what a `_target_` names cannot be judged without a library."""
        if not str(name).startswith(OWN) or not all(word.isidentifier() for word in name.split(".")):
            raise ValueError(f"{name} is not ours")
        module, _, attribute = name.rpartition(".")
        found = vars(self.load(module)).get(attribute) if self._file(module) else None
        if isinstance(found, Inert) or (isinstance(found, type) and issubclass(found, Foreign)):
            raise ValueError(f"{name} is not known without a library")
        if self._file(name):
            raise ValueError(f"{name} is a module, and known to its package once somebody has imported it")

    def load(self, name: str) -> ModuleType:
        """One of our modules. Raises ImportError, in the words of Python's own, where there is none."""
        if name in self.modules:
            return self.modules[name]
        file = self._file(name)
        if file is None:
            above = self.load(name.rpartition(".")[0])
            why = "" if Path(str(above.__file__)).stem == "__init__" else f"; {above.__name__!r} is not a package"
            raise ModuleNotFoundError(f"No module named {name!r}{why}")
        module = self.modules[name] = ModuleType(name)
        module.__dict__.update(__builtins__=self.builtins, __file__=str(file))
        code = SourceFileLoader(name, str(file)).get_code(name)
        assert code is not None
        before = sys.modules.get(name)
        sys.modules[name] = module  # dataclasses look their annotations up there
        try:
            exec(code, module.__dict__)
        finally:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
        return module

    def _file(self, name: str) -> Path | None:
        path = PACKAGE.joinpath(*name.split(".")[1:])
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """What an import statement does in one of these modules."""
        head = name.partition(".")[0]
        if head in REAL:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if head != PACKAGE.name:
            return Inert(name if fromlist else head)
        module = self.load(name)
        for each in fromlist or ():
            if not hasattr(module, each):
                setattr(module, each, self.load(f"{name}.{each}"))
        return module if fromlist else self.load(head)
