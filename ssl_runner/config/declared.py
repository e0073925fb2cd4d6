"""Constructor signatures read from source by `ast`, so that a typo is refused without importing torch.

Of each of our modules its imports, constants and classes are kept; of a class its bases, the names of its methods and
the parameters of its constructor. What rests on a library is OPEN: a config that asks for it is left to the real check,
and so is one in which nothing wrong was found.
"""

import ast
import importlib
import sys
import types
from collections.abc import Mapping
from inspect import Parameter
from pathlib import Path
from threading import RLock
from typing import Any

from ssl_runner.config.check import check
from ssl_runner.config.composed import Composed
from ssl_runner.config.node import DECLARED, OPEN, UNTYPED, Undecided, parameters, undecided
from ssl_runner.config.trust import lies_in, source_of

ROOT, PACKAGE = Path(__file__).resolve().parents[1], "ssl_runner"
# What is imported as it is: without torch, and cheap.
REAL = ("ssl_runner.config", "ssl_runner.duration", "ssl_runner.errors", "annotated_types", "pydantic")
LOCK = RLock()  # the modules are every thread's
MODULES: dict[tuple[Path, int], types.ModuleType] = {}  # by file, and when it was changed


# What is known of nn.Module: it takes any arguments, none of which is a setting, and can be called.
MODULE = type("Module", (), {"__call__": undecided})


def check_declared(composed: "Composed") -> "Composed":
    """The same config with what declared signatures find wrong among its problems."""
    wrong = declared_problems(composed.record) if composed.content else []
    composed.decided = wrong is not None
    composed.problems += wrong or []
    return composed


def declared_problems(content: Mapping[str, Any]) -> list[str] | None:
    """What the signatures find wrong with a config, a line each; None if that takes a library to say."""
    with LOCK:
        try:
            job = declared_module("ssl_runner.run.job")
            return check(content, job.Job, job.RUNTIME, declared_module)[1]
        except Exception:  # whatever happens, the real check meets it
            return None


def declared_annotation(content: Mapping[str, Any], key: str) -> Any:
    """The annotation of the parameter that a key of a config sets; OPEN if it takes a library to say."""
    *above, last = key.split(".")
    node: Any = content if above else {"_target_": "ssl_runner.run.job.Job"}
    try:
        for word in above:
            node = node[word]
        with LOCK:
            module, _, name = node["_target_"].rpartition(".")
            return parameters(getattr(declared_module(module), name))[last][0]
    except Exception:  # whatever it is, the check has words for it
        return OPEN


def declared_module(name: str) -> types.ModuleType:
    """A module of ours, or of the project's package, as far as its source tells. Raises Undecided for any other."""
    file = file_of_module(name)
    if file is None:
        raise Undecided(name)
    key = file, file.stat().st_mtime_ns
    if key not in MODULES:
        module = types.ModuleType(name)
        for statement in ast.parse(file.read_bytes()).body:
            vars(module).update(declared_names(statement, vars(module)))
        MODULES[key] = module
    return MODULES[key]


def file_of_module(name: str) -> Path | None:
    """The source of a module of ours, or of the project's trusted package; None for any other."""
    if not lies_in(name, PACKAGE):
        return source_of(name)
    place = ROOT.joinpath(*name.split(".")[1:])
    return next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)


def declared_names(statement: ast.stmt, space: dict[str, Any]) -> dict[str, Any]:
    """What a statement adds to a module's names; OPEN if it cannot be told."""
    if isinstance(statement, ast.ImportFrom) and statement.level:  # within a package of the user's
        return {each.asname or each.name: OPEN for each in statement.names}
    if isinstance(statement, ast.ImportFrom):
        return {each.asname or each.name: imported(str(statement.module), each.name) for each in statement.names}
    if isinstance(statement, ast.Import):
        whole = [(each.asname, each.name if each.asname else each.name.partition(".")[0]) for each in statement.names]
        return {alias or name: imported(name) for alias, name in whole}
    if isinstance(statement, ast.ClassDef):
        return {statement.name: declared_class(statement, space)}
    nodes = list(ast.walk(statement))
    names = {each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    names |= {name for each in nodes if (name := getattr(each, "asname", None) or getattr(each, "name", None))}
    constant = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value
    return dict.fromkeys(names, evaluated(constant, space) if constant else OPEN)


def imported(origin: str, name: str | None = None) -> Any:
    """A module, or what it has by a name; OPEN if it is a library's."""
    if origin.partition(".")[0] in sys.stdlib_module_names or any(lies_in(origin, each) for each in REAL):
        module = importlib.import_module(origin)
    elif file_of_module(origin):
        module = declared_module(origin)
    else:
        return OPEN
    if name is None:
        return module
    return getattr(module, name) if hasattr(module, name) else imported(f"{origin}.{name}")


def declared_class(node: ast.ClassDef, space: dict[str, Any]) -> Any:
    """A class with the names of its methods and what its constructor takes; OPEN if it rests on a library."""
    bases = [MODULE if ast.unparse(each) == "nn.Module" else evaluated(each, space) for each in node.bases]
    decorators = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    if OPEN in bases or node.keywords or "__new__" in methods or decorators - {"dataclass", "runtime_checkable"}:
        return OPEN
    given = {name: each for base in reversed(bases) for name, each in getattr(base, DECLARED, {}).items()}
    if "__init__" in methods:
        given = arguments(methods["__init__"].args, space)
    elif "dataclass" in decorators:
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        fields = [each for each in fields if not ast.unparse(each.annotation).startswith("ClassVar")]
        given |= {ast.unparse(each.target): parameter(each.annotation, each.value, space) for each in fields}
    members = {**dict.fromkeys(methods, undecided), "__module__": space["__name__"], DECLARED: given}
    try:
        return types.new_class(node.name, tuple(bases), {}, lambda names: names.update(members))
    except TypeError:  # of what is no class
        return OPEN


def arguments(given: ast.arguments, space: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What an `__init__` takes, by name."""
    _, *placed = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(placed) - len(given.defaults)), *given.defaults, *given.kw_defaults]
    pairs = zip([*placed, *given.kwonlyargs], defaults, strict=True)
    return {each.arg: parameter(each.annotation, default, space) for each, default in pairs}


def parameter(annotation: ast.expr | None, default: ast.expr | None, space: dict[str, Any]) -> tuple[Any, Any]:
    """The annotation, and whether there is a default."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return evaluated(annotation, space) if annotation else UNTYPED, OPEN if default else Parameter.empty


def evaluated(expression: ast.expr, space: dict[str, Any]) -> Any:
    """The value of an expression; OPEN if a library has a say in it, or something of ours would have to run."""
    names = {each.id for each in ast.walk(expression) if isinstance(each, ast.Name)}
    if any(space.get(name) is OPEN for name in names) or calls_out(expression, space):
        return OPEN
    try:
        return eval(compile(ast.Expression(expression), space["__name__"], "eval"), space)
    except Exception:
        return OPEN


def calls_out(expression: ast.expr, space: dict[str, Any]) -> bool:
    """Whether a user's expression would call anything but a range: what it does is for its import alone to do."""
    called = [space.get(ast.unparse(each.func)) for each in ast.walk(expression) if isinstance(each, ast.Call)]
    own = lies_in(space["__name__"], PACKAGE)
    return not own and any(getattr(each, "__module__", None) != "annotated_types" for each in called)
