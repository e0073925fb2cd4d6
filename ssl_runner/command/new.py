"""`ssl-runner new FOLDER`: a team's own repository, which runs at once.

It has configs, a data set, a pretext task, a protocol, an experiment, tests and a CI file of its own. The runner stays
installed beside it: docs/team.md.
"""

import keyword
import re
import shlex
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib.util import find_spec
from pathlib import Path

from ssl_runner import __version__
from ssl_runner.config.compose import CHECKOUT, PACKAGE, TREE
from ssl_runner.errors import refuse

TEMPLATE = (CHECKOUT.parent / "scripts" if TREE == CHECKOUT else PACKAGE) / "template"
NAME = "demo"  # of the package and the experiment in the template
LEFT_OUT = {"__pycache__", ".ruff_cache", ".pytest_cache"}


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner new", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new or empty one; its name is that of the package")
    folder = parser.parse_args(words).folder
    name = folder.absolute().name.lower().replace("-", "_")
    if problems := [*wrong_name(name), *wrong_folder(folder)]:
        return refuse(f"FOLDER: given {folder}, {line}" for line in problems)
    try:
        for file in sorted(each for each in TEMPLATE.rglob("*") if each.is_file()):
            place = file.relative_to(TEMPLATE)
            if not LEFT_OUT.intersection(place.parts):
                path = folder / re.sub(rf"\b{NAME}\b", name, str(place))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(fill(file.read_text(encoding="utf-8"), name), encoding="utf-8")
    except OSError as error:
        return refuse([f"FOLDER: {error}"])
    print(f"{folder} is written. Next:")
    print(f"  cd {shlex.quote(str(folder))} && git init && pip install -e '.[test]'")
    print(f"  ssl-runner experiment={name}")
    print("  pytest")
    return 0


def fill(text: str, name: str) -> str:
    """The text of a template file with the name of the new package and the version of the runner."""
    return re.sub(rf"\b{NAME}\b", name, text).replace("ssl-runner>=0", f"ssl-runner>={__version__}")


def wrong_name(name: str) -> list[str]:
    """A line if the name cannot be that of a package."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        return ["whose name cannot be a package's; letters, digits and _ are possible, as in my_methods"]
    spec = find_spec(name)  # without an origin it is any folder of this name
    taken = name in sys.stdlib_module_names or name in ("conf", "tests", "outputs") or (spec and spec.origin)
    return [f"and there is a package {name} already; choose another name, as in my_{name}"] if taken else []


def wrong_folder(folder: Path) -> list[str]:
    """A line if something is there already."""
    if folder.is_dir() and not any(each.name != ".git" for each in folder.iterdir()):
        return []
    return ["which is there already; name a new folder, or an empty one"] if folder.exists() else []
