"""`ssl-runner list [GROUP ...]`: every choice of every group, in a line each."""

from argparse import ArgumentParser
from pathlib import Path

from ssl_runner.command.usage import missing_folder
from ssl_runner.config.compose import Composer
from ssl_runner.config.describe import describe_choices
from ssl_runner.errors import nearest, refuse

HOW = {
    "augment": "recipes that a pretext task mounts: augment@pretext.augment=NAME",
    "evaluator": "several at once: evaluator=[NAME,NAME]",
}


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner list", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="only these, as in pretext")
    parser.add_argument("-cd", "--config-dir", type=Path, metavar="FOLDER", help="list the choices in FOLDER as well")
    arguments = parser.parse_args(words)
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    composer = Composer(arguments.config_dir)
    possible = [*composer.groups]
    if unknown := [group for group in arguments.groups if group not in possible]:
        rest = f"possible are {', '.join(possible)}"
        return refuse(f"GROUP: given {group}; {rest}{nearest(group, possible)}" for group in unknown)
    for group in arguments.groups or possible:
        lines = describe_choices(composer, group)
        wide = max(map(len, lines))
        print(f"{group}: {HOW.get(group, f'{group}=NAME')}")
        print("\n".join(f"  {name:{wide}}  {line}".rstrip() for name, line in lines.items()), end="\n\n")
    print("settings of a choice: ssl-runner pretext=NAME --help")
    return 0
