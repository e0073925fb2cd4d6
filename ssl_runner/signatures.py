"""A config against the signatures of our own modules, without the seconds that importing torch takes.

A signature needs the contract, `Literal` and `Annotated`, and nothing of torch. So the code of our modules is run once
more, in modules that nobody else sees, with an inert thing in the place of every library but the standard one. Whatever
asks such a thing for a fact, or whether it is there, ends the look at that config, and the real check decides; it also
does where nothing wrong was found. Not noticed are a bare `except`, `except Exception` around an import, `is`, and the
equality of two things of libraries.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from threading import RLock
from types import ModuleType
from typing import Any

from ssl_runner.config import check as schema
from ssl_runner.inert import ASKING, Foreign, Inert, Unknown, require_certain

PACKAGE = __name__.partition(".")[0]
JOB = f"{PACKAGE}.run.job"
REAL = {*sys.stdlib_module_names, "annotated_types", "pydantic"}
LOCK = RLock()  # sys.modules and the modules kept here are every thread's


def problems_of(content: Mapping[str, Any]) -> list[str] | None:
    """What the signatures find wrong with a config, a line each; None where that takes a library to say."""
    with LOCK:
        try:
            sources = _sources()
            for name in targets(content):
                sources.require_plain(name)
            module = sources.load(JOB)
            return schema.check(content, module.Job, module.RUNTIME, sources.load)[1]
        except (Unknown, Exception):  # whatever happens, the real check meets it where nothing is inert
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


class Sources:
    """Our modules by name, each run once, beside those in `sys.modules` and unknown to them."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {schema.__name__: schema}  # Node is the one that the check knows
        self.builtins = {**vars(builtins), "__import__": self._import, **ASKING}

    def require_plain(self, name: Any) -> None:
        """Raises Unknown where what a `_target_` names cannot be judged without a library."""
        if not str(name).startswith(f"{PACKAGE}.") or not all(word.isidentifier() for word in name.split(".")):
            raise Unknown(f"{name} is not ours")
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(self.load(module), attribute, None)
        except ImportError:  # the check says it in its own words
            return
        if isinstance(found, Inert) or (isinstance(found, type) and issubclass(found, Foreign)):
            raise Unknown(f"{name} is not known without a library")
        if found is None and hasattr(sys.modules.get(module), attribute):
            raise Unknown(f"{name} was put there by somebody")
        if self._spec(name) is not None:
            raise Unknown(f"{name} is a module, and known to its package once somebody has imported it")

    def load(self, name: str) -> ModuleType:
        """One of our modules. Raises ImportError, in the words of Python's own, where there is none, and Unknown."""
        if name in self.modules:
            return self.modules[name]
        above, _, last = name.rpartition(".")
        package = self.load(above) if above else None
        spec = self._spec(name)
        if spec is None and name not in sys.modules:
            why = "" if hasattr(package, "__path__") else f"; {above!r} is not a package"
            raise ModuleNotFoundError(f"No module named {name!r}{why}")
        if spec is None or spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
            raise Unknown(f"{name} has no source")
        module = ModuleType(name)
        vars(module).update(__builtins__=self.builtins, __file__=spec.origin, __package__=spec.parent)
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        self._run(module, spec.origin)
        if package is not None:
            setattr(package, last, module)
        return module

    def _run(self, module: ModuleType, file: str) -> None:
        name = module.__name__
        before = sys.modules.get(name)
        self.modules[name] = sys.modules[name] = module  # dataclasses look their annotations up in the latter
        try:
            code = SourceFileLoader(name, file).get_code(name)
            assert code is not None
            exec(code, vars(module))
        except BaseException as error:
            del self.modules[name]  # as Python does: what has run by half is no module
            if isinstance(error, Exception):
                raise Unknown(f"{name} does not run without libraries, or at all") from error
            raise
        finally:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before

    def _spec(self, name: str) -> ModuleSpec | None:
        """Where Python would find one of our modules, whose package is loaded; None where there is none."""
        if name == PACKAGE:
            return sys.modules[name].__spec__
        above = name.rpartition(".")[0]
        path = getattr(sys.modules.get(above), "__path__", getattr(self.load(above), "__path__", None))
        return None if path is None else PathFinder.find_spec(name, path)

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """What an import statement does in one of these modules."""
        if level:
            name = resolve_name("." * level + name, globals["__package__"])
        head = name.partition(".")[0]
        if head in REAL:
            return builtins.__import__(name, globals, locals, fromlist or ())
        if head != PACKAGE:
            require_certain(sys._getframe(1))
            return Inert(name if fromlist else head)
        module = self.load(name)
        for word in fromlist or ():
            if word != "*" and not hasattr(module, word):
                setattr(module, word, self.load(f"{name}.{word}"))
        return module if fromlist else self.load(head)
