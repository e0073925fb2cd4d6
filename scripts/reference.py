"""Reference pages of docs/reference/: every choice and every setting, from the same source as `--help`.

python scripts/reference.py          # writes the pages
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from result_pages import linked, paper_of

from ssl_runner.command.list import HOW
from ssl_runner.config.compose import Composer
from ssl_runner.config.describe import (
    Setting,
    describe_choices,
    describe_settings,
    docstring_of,
    file_of,
    first_sentence,
    target_of,
)
from ssl_runner.config.explain import DURATION, job_settings, sweep_settings
from ssl_runner.config.files import choice_content
from ssl_runner.config.hydra_node import HYDRA_KEYS
from ssl_runner.run_folder.atomic import write

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/reference.py from signatures, docstrings and the comments of YAML files. -->"
Described = Mapping[str, Sequence[Setting]]


def describe_group(composer: Composer, group: str) -> dict[str, list[Setting]]:
    """The settings of each choice of a group."""
    described = {}
    for name in composer.groups[group]:
        place = {"augment": "pretext.augment", "evaluator": f"evaluator.{name}"}.get(group, group)
        word = f"evaluator=[{name}]" if group == "evaluator" and name != "none" else f"{group}={name}"
        word = word.replace("augment=", "augment@pretext.augment=") if group == "augment" else word
        described[name] = [] if group == "experiment" else describe_settings(composer, group, name, place, [word])
    return described


def group_page(composer: Composer, group: str, described: Described) -> str:
    """A page: a table of the choices, and for each its paper or source and a table of its settings."""
    lines = describe_choices(composer, group)
    anchors = {name: f"[`{name}`](#{name})" if described[name] else f"`{name}`" for name in lines}
    rows = [[anchors[name], cell(line)] for name, line in lines.items()]
    how = HOW.get(group, f"{group}=NAME")
    text = [
        f"# {group}",
        NOTE,
        f"`{how}`" if " " not in how else f"{how[0].upper()}{how[1:]}.",
        *table("choice | what it is", rows),
    ]
    for name, settings in described.items():
        if settings:
            text += [f"## {name}", *about(composer, group, name), *settings_table(settings)]
    return paged(text)


def about(composer: Composer, group: str, name: str) -> list[str]:
    """What a choice's module opens with, such as a paper, and where it is declared."""
    target = target_of(choice_content(composer.folders, f"{group}/{name}"))
    module = target.rpartition(".")[0].replace(".", "/") + ".py"
    opening = " ".join(docstring_of(target, whole=True).split("\n\n")[0].split())
    paper = linked(cell(paper_of(name) + "." if group == "pretext" else opening))
    does = cell(first_sentence(docstring_of(target)))
    yaml = file_of(composer, f"{group}/{name}").relative_to(ROOT)
    links = [f"[{path}](../../{path})" for path in (module, yaml)]
    return [*dict.fromkeys(filter(None, (paper, does))), f"Source: {', '.join(links)}"]


def settings_table(settings: Sequence[Setting]) -> list[str]:
    rows = [[f"`{each.key}`", cell(each.type), code(each.default), cell(each.meaning)] for each in settings]
    return table("setting | type | default | meaning", rows)


def table(head: str, rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "\n".join([f"| {head} |", "|---" * (head.count("|") + 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)])
    ]


def cell(text: str) -> str:
    """Text that a table's cell takes as it is."""
    return re.sub(r"(?<!`)<(?=[a-z])", "&lt;", text.replace("|", r"\|")).replace("*", r"\*")


def code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def paged(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """The page of settings that belong to no group: a job's, a sweep's, and what is used of Hydra's."""
    hydra = [[f"`hydra.{key}`", cell(meaning)] for key, meaning in HYDRA_KEYS.items()]
    return paged(
        [
            "# Job, sweep and Hydra",
            NOTE,
            f"A duration has a unit: {DURATION}.",
            "## Job",
            *settings_table(job_settings()),
            "## Sweep",
            "With `-m`; see [sweeps](../sweeps.md).",
            *settings_table(sweep_settings()),
            "## Hydra",
            "`ssl-runner --hydra-help` says the same.",
            *table("key | meaning", hydra),
        ]
    )


def index_page(composer: Composer) -> str:
    """The page that names the others."""
    rows = [[f"[{group}]({group}.md)", str(len(names))] for group, names in composer.groups.items()]
    return paged(
        [
            "# Every setting",
            NOTE,
            "On the command line the same is said by `ssl-runner list [GROUP]`, `ssl-runner GROUP=CHOICE --help` and "
            "`ssl-runner KEY --help`.",
            *table("group | choices", [*rows, ["[job, sweep and Hydra](settings.md)", ""]]),
        ]
    )


def pages(composer: Composer) -> dict[str, str]:
    """Every page by its name, but those of the groups."""
    return {"index": index_page(composer), "settings": settings_page()}


def main() -> None:
    composer = Composer()
    every = pages(composer)
    for group in composer.groups:
        every[group] = group_page(composer, group, describe_group(composer, group))
    PAGES.mkdir(exist_ok=True)
    for name, text in every.items():
        write(PAGES / f"{name}.md", text)
    for stale in {*PAGES.glob("*.md")} - {PAGES / f"{name}.md" for name in every}:
        stale.unlink()


if __name__ == "__main__":
    main()
