"""`ssl-runner [KEY=VALUE ...]`: one training job, or with -m a sweep of them."""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ssl_runner import __version__
from ssl_runner.config import TREE, Composer, dump

if TYPE_CHECKING:
    from ssl_runner.job import Job

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
    problems += [line for each in composed for line in each.problems]
    if typed.multirun and any(each.folder for each in composed):
        problems.append("hydra.run.dir: names the folder of a single run; type hydra.sweep.dir=... with -m")
    if not typed.multirun and any(each.sweep_folder for each in composed):
        problems.append("hydra.sweep.dir: names the folder of a sweep; type hydra.run.dir=... without -m")
    from ssl_runner.job import read  # torch is imported here, after all that needs none

    ready = []
    for overrides, each in zip(jobs, composed, strict=True):
        chosen = each.content.get("choices", {}) if each.content else {}
        content = {**each.content, "choices": {**chosen, **each.choices}} if isinstance(chosen, dict) else each.content
        job, wrong = read(content) if each.content else (None, [])
        problems += wrong
        if job is not None:
            ready.append(Ready(job, content, overrides, each.folder))
    if problems:
        return refuse(problems)
    if typed.cfg:
        print("---\n".join(dump(each.content) for each in composed), end="")
        return 0
    console = Console(highlight=False, markup=False)
    return sweep(ready, composed[0].sweep_folder, console) if typed.multirun else single(ready[0], console)


@dataclass(frozen=True)
class Ready:
    """A job that was checked, as it was typed."""

    job: "Job"
    content: dict[str, Any]
    overrides: list[str]
    folder: str | None

    @property
    def name(self) -> str:
        return "-".join(self.job.choices.get(group, group) for group in ("pretext", "dataset"))


def single(ready: Ready, console: Console) -> int:
    """Runs one job in a folder of its own."""
    from ssl_runner.engine.folder import Occupied, check_free, claim, claim_new

    if ready.folder is None:
        return start(ready, partial(claim_new, Path("outputs") / ready.name), console)
    try:
        check_free(Path(ready.folder))  # now, and not after the data is read
    except (Occupied, OSError) as error:
        return refuse([f"run folder: {error}"])
    return start(ready, partial(claim, Path(ready.folder)), console)


def sweep(jobs: list[Ready], typed: str | None, console: Console) -> int:
    """Runs jobs one after another, each in its own folder below the sweep's. A failed one does not stop the others."""
    from ssl_runner.engine.folder import Occupied, claim, claim_new

    try:
        parent = claim(Path(typed)) if typed else claim_new(Path("outputs/sweeps"))
    except (Occupied, OSError) as error:
        return refuse([f"sweep folder: {error}"])
    every = [each.overrides for each in jobs]
    rows: list[tuple[str, int]] = []
    for number, ready in enumerate(jobs):
        label = " ".join(varied(ready.overrides, every)) or "the only job"
        console.print(f"job {number + 1} of {len(jobs)}: {label}")
        folder = parent / f"{number:03d}-{slug(ready.overrides, every)}"
        rows.append((label, start(ready, partial(claim, folder), console)))
        if rows[-1][1] >= 128:  # interrupted
            break
    if not any(parent.iterdir()):
        parent.rmdir()
    conclude(rows, len(jobs), parent, console)
    return max(status for _, status in rows)


def start(ready: Ready, place: Callable[[], Path], console: Console) -> int:
    from ssl_runner.run import Refused, begin

    try:
        return begin(ready.job, ready.content, ready.overrides, place, console)
    except Refused as reason:
        return refuse(str(reason).splitlines())


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
    if folder.exists():
        console.print(f"to compare:   tensorboard --logdir {folder}", soft_wrap=True)


def refuse(problems: list[str]) -> int:
    """Says all that is wrong, a line each and none twice, and returns the exit status of a refusal."""
    problems = list(dict.fromkeys(problems))
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
