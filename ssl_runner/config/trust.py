"""Project of a user: own configs, own package and trusted packages, by the pyproject.toml of the current folder.

Trusted packages are the only places whose classes a config may name. A config may come from a stranger, and to import a
module is to run it. So a name is judged as text before anything is imported, and the class by the module that defines
it. See docs/decisions/0009-trust.md.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator", "augment")
OWN = tuple(f"ssl_runner.{group}" for group in GROUPS)
PYPROJECT, TABLE = "pyproject.toml", "tool.ssl_runner"
PLACE = "SSL_RUNNER_PROJECT"  # folder of the project; the current one if it is not set
VARIABLE = "SSL_RUNNER_TRUST"  # packages separated by commas; if it is set, the project's list is not read
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
TYPED = {"conf": '"conf"', "package": '"my_package"', "trust": '["my_package"]'}  # keys, and how one is written


@dataclass(frozen=True)
class Project:
    """What the `[tool.ssl_runner]` of a folder's pyproject.toml says; `named` is whether it has one."""

    folder: Path
    named: bool = False
    conf: Path | None = None  # a tree of choices, looked in before ours
    package: str = ""  # imported from the folder, whether it is installed or not, if it is trusted
    source: Path | None = None  # of the package: its folder, or its only file
    trust: tuple[str, ...] = ()

    @property
    def code(self) -> tuple[Path, list[str]] | None:
        """The folder, and what in it a run may depend on, for git; None if there is no project."""
        if not self.named:
            return None
        places = [os.path.relpath(each, self.folder) for each in (self.source, self.conf) if each is not None]
        return self.folder, [*places, PYPROJECT]


def read_project() -> Project:
    """The project of the current folder. Raises ValueError in one line if what is said of it is malformed."""
    folder = Path(os.environ.get(PLACE, ""))
    file = folder / PYPROJECT
    try:
        folder = folder.absolute()
        table = parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return Project(folder)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if table is None:
        return Project(folder)
    for key, value in table.items():
        texts = value if key == "trust" and isinstance(value, list) else [value] if key != "trust" else [None]
        if key not in TYPED or not all(isinstance(each, str) for each in texts):
            how = ", ".join(f"{name} = {text}" for name, text in TYPED.items())
            raise ValueError(f"{file}: {TABLE}.{key}: given {value!r}; possible are {how}")
    conf, package = table.get("conf"), table.get("package", "")
    if conf is not None and not (folder / conf).is_dir():
        raise ValueError(f"{file}: {TABLE}.conf: there is no folder {folder / conf}")
    places = [folder / root / form for root in ("", "src") for form in (package, f"{package}.py")]
    source = next((each for each in places if package.isidentifier() and each.exists()), None)
    if package and source is None:
        raise ValueError(f"{file}: {TABLE}.package: given {package!r}, and there is no {places[0]}, nor {places[2]}")
    trust = tuple(each.rstrip(".") for each in table.get("trust", ()))
    return Project(folder, True, None if conf is None else folder / conf, package, source, trust)


@cache
def parse(text: str) -> Mapping[str, Any] | None:
    """The table of a pyproject.toml; None if it has none. Raises ValueError if it can have one and cannot be read."""
    if "ssl_runner" not in text:
        return None
    import tomllib  # most folders need none

    try:
        tool = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        if TABLE in text:
            raise ValueError(f"{error}, and it holds {TABLE}") from None
        return None
    table = tool.get("ssl_runner") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ValueError(f"{TABLE}: given {table!r}; type [{TABLE}] above its keys")
    return table


@dataclass(frozen=True)
class OwnPackage:
    """Imports a package from a folder, before one that is installed, and nothing else that lies there."""

    package: str
    folder: str

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [self.folder]) if name == self.package else None


def find_own_package() -> None:
    """Has the project's package imported from its folder, if it is trusted, in this process."""
    project = read_project()
    if project.source is not None and any(lies_in(each, project.package) for each in trusted_packages()):
        finder = OwnPackage(project.package, str(project.source.parent))
        if finder not in sys.meta_path:
            sys.meta_path.insert(0, finder)


def source_of(module: str) -> Path | None:
    """The file of a module of the project's trusted package, whether it is imported or not; None for any other."""
    project = read_project()
    if project.source is None or not (lies_in(module, project.package) and trusting_package(module)):
        return None
    place = project.source.with_suffix("").joinpath(*module.split(".")[1:])
    return next((each for each in (place / "__init__.py", place.with_suffix(".py")) if each.is_file()), None)


def trusted_packages() -> tuple[str, ...]:
    """Packages that the owner of the project trusts beside our own. Raises ValueError if the file is malformed."""
    if VARIABLE in os.environ:
        listed = os.environ[VARIABLE].split(",")
        return tuple(name for each in listed if (name := each.strip().rstrip(".")))  # a final dot was once needed
    return read_project().trust


def trusting_package(module: str) -> str | None:
    """The trusted package that a module lies in; None for a stranger's. Raises ValueError."""
    own = next((package for package in OWN if lies_in(module, package)), None)
    return own or next((package for package in trusted_packages() if lies_in(module, package)), None)


def lies_in(module: str, package: str) -> bool:
    return bool(package) and f"{module}.".startswith(f"{package}.")


def distrust(name: Any) -> str | None:
    """Why a `_target_` may not be imported, and what to type; None if it may."""
    try:
        if isinstance(name, str) and NAME.fullmatch(name) and trusting_package(name.rpartition(".")[0]):
            return None
    except ValueError as error:
        return str(error)
    given = name if isinstance(name, str) and NAME.fullmatch(name) else repr(name)[:80]
    return (
        f"given {given}, which is not trusted; possible are classes in "
        f"ssl_runner.{{{','.join(GROUPS)}}}, and in a package of yours that {PYPROJECT} here trusts, as in "
        f"[{TABLE}] trust = {TYPED['trust']}, or the environment, as in {VARIABLE}=my_package"
    )


def foreign_code(content: Any) -> list[str]:
    """A line for each package that is not ours whose code a config runs."""
    modules = {name.rpartition(".")[0] for name in targets(content) if isinstance(name, str)}
    packages = {trusting_package(module) for module in modules} - {None, *OWN}
    project = (read_project().folder / PYPROJECT).resolve()
    source = f"the environment variable {VARIABLE}" if VARIABLE in os.environ else str(project)
    return [f"runs code of {package}, which {source} trusts" for package in sorted(map(str, packages))]


def targets(content: Any) -> Iterator[Any]:
    """Every `_target_` of a config."""
    if isinstance(content, Mapping):
        yield from (value for key, value in content.items() if key == "_target_")
    for value in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from targets(value)
