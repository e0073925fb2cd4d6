"""`ssl-runner [KEY=VALUE ...]`: one training job, or with -m a sweep of them."""

import argparse
import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner import __version__
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.files import dump
from ssl_runner.config.migrate import stamped
from ssl_runner.config.trust import VARIABLE, trusted_packages
from ssl_runner.errors import refuse
from ssl_runner.run.validate import Ready, inspected, prepared
from ssl_runner.run_folder.layout import CONFIG

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT = "config"  # the name of the config to start from
USAGE = """\
usage: ssl-runner [GROUP=CHOICE ...] [KEY=VALUE ...]    train; without arguments the default job
       ssl-runner -m KEY=A,B ...                         a sweep: train each combination
       ssl-runner -m sweep.resume=FOLDER                 go on with a sweep
       ssl-runner resume RUN                             go on with an interrupted run, to the same weights
       ssl-runner evaluate RUN [PROTOCOL ...]            measure an encoder
       ssl-runner compare [FOLDER ...]                   runs side by side, over seeds
       ssl-runner rerun RUN                              the same again: are the numbers the same?
       ssl-runner export RUN                             the encoder for elsewhere
       ssl-runner save RUN NAME                          a run as a recipe, ready to commit
       ssl-runner --cfg job [GROUP=CHOICE ...]           show the composed config and stop
each verb has --help

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
hydra.sweep.dir=FOLDER names a sweep's; by default it is outputs/sweeps/<time>/.
settings of a sweep: sweep.jobs_per_device=1 (at once), sweep.threads=N (of the CPU, a job), sweep.metric=knn/top1,
sweep.on_error=continue|stop, sweep.halving=0 (3: only the best third goes on at each rung), sweep.first_rung=0.1
{sweeps}
"""


def main(words: list[str]) -> int:
    """Returns the exit status."""
    typed = options(words)
    if typed.help:
        print(help_text())
        return 0
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        return refuse([f"--config-dir: there is no folder {typed.config_dir}"])
    if typed.multirun:
        return sweep(words, typed)
    composer = composer_of(typed)
    stray = [word for word in typed.overrides if re.match(r"(sweep\.|hydra[./](launcher|sweeper))", word)]
    if stray:
        return refuse([f"{word.partition('=')[0]}: is a setting of a sweep; type -m" for word in stray])
    composed = inspected(composer, typed.overrides)
    if composed.sweep_folder:
        composed.problems.append("hydra.sweep.dir: names the folder of a sweep; type hydra.run.dir=... without -m")
    # torch is imported here, after all that needs none
    ready, problems = prepared(composed, typed.overrides, build=not typed.cfg)
    if ready is None:
        return refuse(problems)
    if typed.cfg:
        print(dump(stamped(composed.content)), end="")
        return 0
    from rich.console import Console

    return single(ready, Console(highlight=False, markup=False))


def options(words: list[str]) -> argparse.Namespace:
    """The words by what they are for."""
    parser = argparse.ArgumentParser(prog="ssl-runner", add_help=False, usage="ssl-runner [KEY=VALUE ...] (see --help)")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("--config-name", default=DEFAULT)
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="version", version=f"ssl-runner {__version__}")
    return parser.parse_intermixed_args(words)


def composer_of(typed: argparse.Namespace) -> Composer:
    return Composer(typed.config_dir, typed.config_name.removesuffix(".yaml"))


def single(ready: Ready, console: "Console") -> int:
    """Runs one job in a folder of its own."""
    from ssl_runner.errors import Refused
    from ssl_runner.run.begin import begin
    from ssl_runner.run_folder.claim import check_free, claim, claim_new

    folder = ready.composed.folder

    def place() -> Path:
        return claim_new(Path("outputs") / ready.name) if folder is None else claim(Path(folder))

    try:
        if folder is not None:
            check_free(Path(folder))  # now, and not after the data is read
        return begin(ready.job, ready.content, ready.overrides, place, console)
    except Refused as reason:
        return refuse(reason.lines)


def sweep(words: list[str], typed: argparse.Namespace) -> int:
    """Runs jobs, each in a process and a folder of its own below the sweep's; or shows their configs."""
    from dataclasses import replace

    from rich.console import Console

    from ssl_runner.sweep.comparison import print_comparison
    from ssl_runner.sweep.read import read
    from ssl_runner.sweep.settings import RESUME, check_recorded, merge_words, split_words
    from ssl_runner.sweep.start import start

    now, command, recorded = split_words(typed.overrides), merge_words([], words), False
    if now.resume is not None:
        from ssl_runner.sweep.ledger import Ledger

        try:
            ledger = Ledger.open(Path(now.resume))
        except ValueError as error:
            return refuse([f"sweep.resume: {error}"])
        folder = went_back(Path(now.resume), ledger.cwd, typed)
        command = merge_words(ledger.command, [*now.own, *now.launcher, *now.sweeper])
        if problems := check_recorded(command, typed.overrides):
            return refuse(problems)
        before = options(command)
        kept = split_words(before.overrides)
        if not now.jobs:  # they are those that it was begun with, and where there are some already, as they are
            recorded = bool(ledger.jobs) and not typed.cfg
            typed.config_dir = typed.config_dir or before.config_dir
            typed.config_name = before.config_name if typed.config_name == DEFAULT else typed.config_name
        own = [*kept.own, f"{RESUME}={folder}"]
        now = replace(kept, jobs=now.jobs or kept.jobs, own=own, folder=now.folder)
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        return refuse([f"--config-dir: there is no folder {typed.config_dir}"])
    composer, console = composer_of(typed), Console(highlight=False, markup=False, stderr=bool(typed.cfg))
    asked = read(now, composer, console, recorded, build=not typed.cfg)
    if asked.problems:
        return refuse(asked.problems)
    if typed.cfg:
        print("---\n".join(dump(stamped(each.composed.content)) for each in asked.jobs), end="")
        return 0
    try:
        return start(asked, command, console, run_job, print_comparison)
    except ValueError as error:
        return refuse(str(error).splitlines())


def run_job(folder: str, threads: int | None = None) -> int:
    """Carries out a job of a sweep in its process, where torch is imported."""
    from ssl_runner.run.resume import resume
    from ssl_runner.sweep import worker

    return worker.run_job(resume, folder, threads)


def went_back(folder: Path, cwd: str, typed: argparse.Namespace) -> Path:
    """Goes to where a sweep was begun, from where its jobs' relative paths start. Returns its folder as seen there."""
    if Path(cwd).is_dir() and not Path.cwd().samefile(cwd):
        folder = folder.resolve()
        os.environ[VARIABLE] = ",".join(trusted_packages())  # the folder that a sweep names is not asked whom to trust
        typed.config_dir = typed.config_dir and typed.config_dir.resolve()
        os.chdir(cwd)
    return folder


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
    settings = [f"  {line}" for line in (TREE / CONFIG).read_text().splitlines() if re.match(r"[a-z_]+: .*#", line)]
    own = {"hydra/launcher": "local (by default, a queue of processes)", "hydra/sweeper": "grid (by default, all jobs)"}
    choices = [
        f"{group}={', '.join([first, *sorted(file.stem for file in (TREE / group).glob('*.yaml'))])}"
        for group, first in own.items()
    ]
    return USAGE.format(groups="\n".join(lines), settings="\n".join(settings), sweeps="\n".join(choices))
