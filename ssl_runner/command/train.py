"""`ssl-runner [KEY=VALUE ...]`: one training job, or with -m a sweep of them."""

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ssl_runner import __version__
from ssl_runner.config import TREE, Composer, dump
from ssl_runner.migration import stamped

if TYPE_CHECKING:
    from ssl_runner.ready import Ready

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
    if typed.multirun:
        return sweep(words, typed.overrides, composer, show=bool(typed.cfg))
    stray = [word for word in typed.overrides if re.match(r"(sweep\.|hydra[./](launcher|sweeper))", word)]
    if stray:
        return refuse([f"{word.partition('=')[0]}: is a setting of a sweep; type -m" for word in stray])
    from ssl_runner.ready import prepared  # torch is imported here, after all that needs none

    ready, problems, composed = prepared(composer, typed.overrides)
    if composed.sweep_folder:
        problems.append("hydra.sweep.dir: names the folder of a sweep; type hydra.run.dir=... without -m")
    if problems or ready is None:
        return refuse(problems)
    if typed.cfg:
        print(dump(stamped(composed.content)), end="")
        return 0
    return single(ready, Console(highlight=False, markup=False))


def single(ready: "Ready", console: Console) -> int:
    """Runs one job in a folder of its own."""
    from ssl_runner.engine.folder import Occupied, check_free, claim, claim_new
    from ssl_runner.run import Refused, begin

    folder = ready.composed.folder

    def place() -> Path:
        return claim_new(Path("outputs") / ready.name) if folder is None else claim(Path(folder))

    try:
        if folder is not None:
            check_free(Path(folder))  # now, and not after the data is read
        return begin(ready.job, ready.content, ready.overrides, place, console)
    except (Occupied, OSError) as error:
        return refuse([f"run folder: {error}"])
    except Refused as reason:
        return refuse(str(reason).splitlines())


def sweep(words: list[str], overrides: list[str], composer: Composer, show: bool) -> int:
    """Runs jobs, each in a process and a folder of its own below the sweep's; or shows their configs."""
    from ssl_runner.sweep import settings
    from ssl_runner.sweep.ledger import Ledger
    from ssl_runner.sweep.typed import carry_out, read

    rest, own = settings.parted(overrides)
    if "resume" in own and not rest:  # the jobs are those that it was begun with
        try:
            return main([*Ledger.open(Path(own["resume"])).command, *words])
        except ValueError as error:
            return refuse([f"sweep.resume: {error}"])
    typed = read(overrides, composer)
    if typed.problems:
        return refuse(typed.problems)
    if show:
        print("---\n".join(dump(stamped(each.composed.content)) for each in typed.jobs), end="")
        return 0
    command = [word for word in words if not settings.is_own(word)]
    try:
        return carry_out(typed, command, composer, Console(highlight=False, markup=False))
    except ValueError as error:
        return refuse(str(error).splitlines())


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
