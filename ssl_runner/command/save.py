"""`ssl-runner save RUN NAME`: a run as conf/experiment/NAME.yaml, ready to commit.

The file holds choices and the settings that differ from what they give, and above them what to type, how long it took,
on what, and the numbers. It is composed before it is written: it gives the config of the run, or nothing is written.
"""

import re
import shlex
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ssl_runner.config.compose import CHECKOUT, TREE
from ssl_runner.config.trust import read_project
from ssl_runner.errors import refuse

NAME = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z0-9_-]+", re.IGNORECASE | re.ASCII)  # experiment=null is none


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner save", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, as in outputs/rotation-shapes/2026-01-31_12-00-00-1f3a")
    parser.add_argument("name", help="of the recipe: letters, digits, _ and -")
    where = "a folder of configs, for FOLDER/experiment/NAME.yaml; default: the project's, or conf"
    parser.add_argument("--to", type=Path, metavar="FOLDER", help=where)
    arguments = parser.parse_args(words)
    if not NAME.fullmatch(arguments.name):
        return refuse([f"NAME: given {arguments.name}; possible are letters, digits, _ and -, as in simclr_cifar10"])
    if arguments.to is not None and arguments.to.exists() and not arguments.to.is_dir():
        return refuse([f"--to: {arguments.to} is a file; name a folder of configs"])
    project = read_project().conf
    own = arguments.to is None and (project is not None or TREE == CHECKOUT)
    folder = (project or TREE) if own else arguments.to or Path("conf")
    path = folder / "experiment" / f"{arguments.name}.yaml"
    from ssl_runner.recipe.recipe import write_recipe
    from ssl_runner.run_folder.atomic import write  # torch is imported here, after all that needs none

    try:
        recipe = write_recipe(arguments.run, arguments.name, None if own else folder)
        there = path.read_text(encoding="utf-8") if path.exists() else None
        if there is None:
            write(path, recipe.text)
        elif there != recipe.text:
            return refuse([f"NAME: {shown(path)} is there already and says something else; choose another name"])
    except (OSError, ValueError) as error:
        return refuse(str(error).splitlines())
    done = "is written" if there is None else "was there already"
    print(f"{shown(path)} {done}: {recipe.settings} settings beside its choices, and it gives the config of the run")
    for key in recipe.left_out:
        remedy = f": to be typed, as {key}=FOLDER" if key in recipe.missing else "; the default stands in for it"
        print(f"{key} is left out, being a place on this machine{remedy}")
    place = [] if own else [f"--config-dir {shlex.quote(shown(folder))}"]
    words = ["ssl-runner", *place, f"experiment={arguments.name}"]
    print("to run it:    " + " ".join([*words, *(f"{key}=FOLDER" for key in recipe.missing)]))
    print(f"to commit it: git add {shlex.quote(shown(path))}")
    return 0


def shown(path: Path) -> str:
    """As seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path)
