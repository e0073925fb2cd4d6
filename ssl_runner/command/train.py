"""`ssl-runner [KEY=VALUE ...]`: one training job, or with -m a sweep of them."""

import argparse
import re
import sys
import textwrap
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ssl_runner import __version__
from ssl_runner.config import TREE, Composed, Composer, dump

USAGE = """\
usage: ssl-runner [GROUP=CHOICE ...] [KEY=VALUE ...]    train; without arguments the default job
       ssl-runner -m KEY=A,B ...                         train each combination, one after another
       ssl-runner resume FOLDER                          go on with an interrupted run, to the same weights
       ssl-runner --cfg job [GROUP=CHOICE ...]           show the composed config and stop

options:
  -m, --multirun          sweep over values separated by commas
  --config-dir FOLDER     look for configs in FOLDER first
  --config-name NAME      the config to start from (default: config)
  --cfg job               print the config instead of running it
  -h, --help, --version

groups and their choices:
{groups}

settings of a job (and any key of a choice, as in optimizer.lr=0.1):
{settings}

hydra.run.dir=FOLDER names the run folder; by default runs go to outputs/<pretext>-<dataset>/<time>/.
"""


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="ssl-runner", add_help=False, usage="ssl-runner [KEY=VALUE ...] (see --help)")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("--config-name", default="config")
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="version", version=f"ssl-runner {__version__}")
    typed = parser.parse_intermixed_args(words)
    if typed.help:
        print(help_text())
        return 0
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        return refuse([f"--config-dir: there is no folder {typed.config_dir}"])
    composer = Composer(typed.config_dir, typed.config_name.removesuffix(".yaml"))
    jobs, problems = composer.expand(typed.overrides) if typed.multirun else ([typed.overrides], [])
    composed = [composer.compose(overrides) for overrides in jobs]
    problems = list(dict.fromkeys(problems + [line for each in composed for line in each.problems]))
    if typed.cfg and not problems:
        print(dump(composed[0].content), end="")
        return 0
    return train(jobs, composed, problems, sweep=typed.multirun)


def train(jobs: list[list[str]], composed: list[Composed], problems: list[str], *, sweep: bool) -> int:
    """Checks every job before the first one begins, then runs them one after another."""
    from ssl_runner import job as jobs_of  # torch is imported here, after all that needs none
    from ssl_runner.engine.folder import claim, claim_new
    from ssl_runner.run import Refused, begin

    ready = []
    for each in composed:
        content = {**each.content, "choices": {**each.content.get("choices", {}), **each.choices}}
        job, wrong = jobs_of.read(content) if each.content else (None, [])
        problems = list(dict.fromkeys(problems + wrong))
        ready.append((job, content))
    if problems:
        return refuse(problems)
    console = Console(highlight=False)
    parent = (Path(composed[0].sweep_folder) if composed[0].sweep_folder else None) if sweep else None
    if sweep:
        parent = claim(parent) if parent else claim_new(Path("outputs/sweeps"))
    rows, worst = [], 0
    for number, (overrides, each, (job, content)) in enumerate(zip(jobs, composed, ready, strict=True)):
        chosen = content["choices"]
        name = f"{chosen.get('pretext', 'pretext')}-{chosen.get('dataset', 'dataset')}"

        def place(each=each, number=number, overrides=overrides, name=name) -> Path:
            if parent is not None:
                return claim(parent / f"{number:03d}-{slug(overrides, jobs)}")
            return claim(Path(each.folder)) if each.folder else claim_new(Path("outputs") / name)

        if parent is not None:
            console.print(f"job {number + 1} of {len(jobs)}: {' '.join(varied(overrides, jobs))}")
        try:
            assert job is not None  # else there were problems
            status = begin(job, content, overrides, place, console)
        except Refused as reason:
            status = refuse(str(reason).splitlines())
        worst = max(worst, status)
        rows.append((" ".join(varied(overrides, jobs)), status))
        if status >= 128:
            break
    if parent is not None:
        conclude(rows, len(jobs), parent, console)
    return worst


def varied(overrides: list[str], jobs: list[list[str]]) -> list[str]:
    """Those overrides of a job that other jobs of the sweep do not share."""
    return [each for each in overrides if not all(each in job for job in jobs)]


def slug(overrides: list[str], jobs: list[list[str]]) -> str:
    """What makes a job of a sweep, as part of a folder's name: letters, digits, dots and hyphens."""
    words = [
        f"{key.split('.')[-1]}-{value}" for key, _, value in (each.partition("=") for each in varied(overrides, jobs))
    ]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(words)).strip("-.")[:60] or "job"


def conclude(rows: list[tuple[str, int]], jobs: int, folder: Path, console: Console) -> None:
    """What became of a sweep's jobs."""
    table = Table("job", "status", box=None, pad_edge=False)
    words = {0: "completed", 1: "failed", 2: "refused"}
    for overrides, status in rows:
        table.add_row(overrides, words.get(status, "interrupted"))
    console.print(table)
    if len(rows) < jobs:
        console.print(f"{jobs - len(rows)} jobs were not begun")
    console.print(f"to compare:   tensorboard --logdir {folder}", soft_wrap=True)


def refuse(problems: list[str]) -> int:
    """Says all that is wrong, a line each, and returns the exit status of a refusal."""
    many = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    print(f"ssl-runner: {many}, nothing was started", file=sys.stderr)
    for line in problems:
        print(f"  {line}", file=sys.stderr)
    return 2


def help_text() -> str:
    """The options, and every choice of every group as the files stand."""
    groups = {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(TREE.iterdir())
        if folder.is_dir()
    }
    wide = max(map(len, groups))
    lines = [
        textwrap.fill(", ".join(choices), 110, initial_indent=f"  {group:{wide}}  ", subsequent_indent=" " * (wide + 4))
        for group, choices in groups.items()
        if choices
    ]
    settings = [
        f"  {line}" for line in (TREE / "config.yaml").read_text().splitlines() if re.match(r"[a-z_]+: .*#", line)
    ]
    return USAGE.format(groups="\n".join(lines), settings="\n".join(settings))
