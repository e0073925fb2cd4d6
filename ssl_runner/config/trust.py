"""Trusted packages: the only places whose classes a config may name.

A config may come from a stranger, and to import a module is to run it. So a name is judged as text before anything is
imported, and the class by the module that defines it. See docs/decisions/0009-trust.md.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator", "augment")
OWN = tuple(f"ssl_runner.{group}" for group in GROUPS)
PROJECT = Path("pyproject.toml")  # of the current folder
VARIABLE = "SSL_RUNNER_TRUST"  # packages separated by commas; if it is set, the project's file is not read
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def trusted_packages() -> tuple[str, ...]:
    """Packages that the owner of the project trusts beside our own. Raises ValueError if the file is malformed."""
    if VARIABLE in os.environ:
        listed = os.environ[VARIABLE].split(",")
        return tuple(name for each in listed if (name := each.strip().rstrip(".")))  # a final dot was once needed
    import tomllib  # only who names a package of another needs it

    try:
        listed = (
            tomllib.loads(PROJECT.read_text(encoding="utf-8")).get("tool", {}).get("ssl_runner", {}).get("trust", [])
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
        return ()  # no project's, or not for us to mend
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ValueError(f'{PROJECT}: tool.ssl_runner.trust: given {listed!r}; type a list, as in ["my_package"]')
    return tuple(each.rstrip(".") for each in listed)


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
        f"ssl_runner.{{{','.join(GROUPS)}}}, and in a package of yours that {PROJECT} here trusts, as in "
        f'[tool.ssl_runner] trust = ["my_package"], or the environment, as in {VARIABLE}=my_package'
    )


def foreign_code(content: Any) -> list[str]:
    """A line for each package that is not ours whose code a config runs."""
    modules = {name.rpartition(".")[0] for name in targets(content) if isinstance(name, str)}
    packages = {trusting_package(module) for module in modules} - {None, *OWN}
    source = f"the environment variable {VARIABLE}" if VARIABLE in os.environ else str(PROJECT.resolve())
    return [f"runs code of {package}, which {source} trusts" for package in sorted(map(str, packages))]


def targets(content: Any) -> Iterator[Any]:
    """Every `_target_` of a config."""
    if isinstance(content, Mapping):
        yield from (value for key, value in content.items() if key == "_target_")
    for value in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from targets(value)
