"""The command line of training and sweeps: its options, and `ssl-runner --help`."""

import argparse
import itertools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ssl_runner import __version__
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.hydra_node import HYDRA_KEYS
from ssl_runner.config.show import INFO, show_info
from ssl_runner.errors import refuse
from ssl_runner.run_folder.layout import CONFIG

DEFAULT = "config"  # the name of the config to start from
USAGE = """\
usage: ssl-runner [GROUP=CHOICE ...] [KEY=VALUE ...]    train; without arguments the default job
       ssl-runner -m KEY=A,B ...                         a sweep: train each combination
       ssl-runner -m sweep.resume=FOLDER                 go on with a sweep
       ssl-runner resume RUN [KEY=VALUE ...]             go on with an interrupted run, to the same weights
       ssl-runner evaluate RUN [PROTOCOL ...]            measure an encoder
       ssl-runner ls [FOLDER ...] [FILTER ...]           the runs, as in ls simclr 'probe>80' -failed
       ssl-runner compare [FOLDER ...]                   runs side by side, over seeds
       ssl-runner watch [FOLDER ...]                     the same as a page, live while runs are trained
       ssl-runner rerun RUN|FILE [KEY=VALUE ...]         a recorded run again: are the numbers the same?
       ssl-runner export RUN                             the encoder for elsewhere
       ssl-runner embed RUN PLACE                        features of a folder of images, texts or sounds, as one file
       ssl-runner cache                                  list and remove decoded images and downloaded shards
       ssl-runner pack FOLDER SHARDS                     images of a folder as shards, for dataset=shards
       ssl-runner save RUN NAME                          a run as a recipe, ready to commit
       ssl-runner new FOLDER                             a team's own repository, which runs at once
       ssl-runner list [GROUP ...]                       every choice, and what it does
       ssl-runner GROUP=CHOICE --help                    its settings: type, range, default, meaning
       ssl-runner KEY --help                             one setting, as in optimizer.lr
       ssl-runner --cfg job [GROUP=CHOICE ...]           show the composed config and stop
each verb has --help

options:
  -m, --multirun            sweep over values separated by commas
  -cd, --config-dir FOLDER  look for configs in FOLDER first
  -cn, --config-name NAME   the config to start from (default: config)
  -c, --cfg job|hydra|all   print the config instead of running it; -p, --package KEY: what it has there
  -i, --info [WHAT]         where it came from: all, config, defaults, defaults-tree, plugins, searchpath
  -sc install=bash          completion of choices, keys and run folders: eval "$(ssl-runner -sc install=bash)"
  --hydra-help              what of Hydra is used here
  -h, --help, --version

groups and their choices:
{groups}

settings of a job (and any key of a choice, as in optimizer.lr=0.1):
{settings}

hydra.run.dir=FOLDER names the run folder; by default runs go to outputs/<pretext>-<dataset>/<time>/.
hydra.sweep.dir=FOLDER names a sweep's; by default it is outputs/sweeps/<time>/.
settings of a sweep: sweep.jobs_per_device=1 (at once), sweep.devices_per_job=1 (GPUs of a job; processes on the CPU),
sweep.threads=N (of the CPU, a process), sweep.metric=knn/top1, sweep.on_error=continue|stop,
sweep.halving=0 (3: only the best third goes on at each rung), sweep.first_rung=0.1
{plugins}
"""

HYDRA_HELP = """\
Hydra composes and reads overrides; its own app does not run. What you know of it:

  GROUP=CHOICE KEY=VALUE   choose, set; a key that is not there is refused with the nearest one
  +KEY=VALUE ++KEY=VALUE   add; add or change. Settings have constructors, so what none takes is refused
  ~KEY ~GROUP@PLACE        leave out: the default of the constructor holds
  GROUP@PLACE=CHOICE       a choice mounted elsewhere, as in augment@pretext.augment=simclr
  -m KEY=A,B               a grid; glob(*), range(1,4), choice(..), shuffle(..); with hydra/sweeper=optuna interval(..)
  hydra/launcher=NAME      local, ray, submitit_local, submitit_slurm; hydra.launcher.KEY=VALUE
  hydra/sweeper=NAME       grid, optuna; hydra/sweeper/sampler=, hydra/sweeper/pruner=, hydra.sweeper.KEY=VALUE
  hydra.sweeper.params     in a config file: keys and values that are swept
  --cfg, --package, --resolve, --info, -cn, -cd, -cp, -sc, -m as Hydra has them; -cp is looked in first, as -cd is

{keys}

A config of your own has the same keys below `hydra:`. Anything else of Hydra's is refused, with what to type instead.
"""


def main(words: list[str]) -> int:
    """Returns the exit status."""
    print(help_text())
    return 0


def options(words: list[str]) -> argparse.Namespace:
    """The words by what they are for."""
    parser = argparse.ArgumentParser(prog="ssl-runner", add_help=False, usage="ssl-runner [KEY=VALUE ...] (see --help)")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-r", "--run", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", "-cp", "--config-path", type=Path)
    parser.add_argument("-cn", "--config-name", default=DEFAULT)
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-i", "--info", nargs="?", const="all", choices=INFO)
    parser.add_argument("-sc", "--shell-completion", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="version", version=f"ssl-runner {__version__}")
    pairs = itertools.pairwise([*words, ""])
    whole = [[word, "all"] if word in ("-i", "--info") and "=" in after else [word] for word, after in pairs]
    return parser.parse_intermixed_args([*itertools.chain(*whole)])


def show(arguments: argparse.Namespace) -> int | None:
    """Prints what was asked for in the place of a run, and returns the exit status; None if a run is meant."""
    if not (arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion):
        return None
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    composer, problems = composer_of(arguments), []
    if arguments.hydra_help:
        print(HYDRA_HELP.format(keys=keys_text()), end="")
    elif arguments.shell_completion:
        from ssl_runner.config.completion import complete

        flags = (each for each in re.findall(r"--[a-z-]+", USAGE) if each != "--help")
        problems = complete(composer, arguments.overrides, [*flags, "--help"])
    elif arguments.info:
        words = arguments.overrides
        if arguments.multirun:  # that of the first job
            from ssl_runner.sweep.settings import split_words

            jobs, problems = composer.expand(split_words(words).jobs)
            words = jobs[0] if jobs else []
        problems = problems or show_info(composer, arguments.info, words)
    else:
        from ssl_runner.config.explain import explain

        text, problems = explain(composer, arguments.overrides)
        print(text or ("" if problems else help_text()), end="\n" if text or not problems else "")
    return refuse(problems) if problems else 0


def keys_text() -> str:
    wide = max(map(len, HYDRA_KEYS))
    return "\n".join(f"  hydra.{key:{wide}}  {meaning}" for key, meaning in HYDRA_KEYS.items())


def composer_of(arguments: argparse.Namespace, words: Sequence[str] = ()) -> Composer:
    """`words`: those of a sweep that goes on, beside what is typed."""
    return Composer(arguments.config_dir, arguments.config_name.removesuffix(".yaml"), [*words, *arguments.overrides])


def missing_folder(folder: Path | None) -> list[str]:
    """A line if --config-dir names no folder."""
    return [f"--config-dir: there is no folder {folder}"] if folder is not None and not folder.is_dir() else []


def help_text() -> str:
    """The options, and every choice of every group as the files stand."""
    groups = Composer().groups
    wide = max(map(len, groups))
    wrapper = textwrap.TextWrapper(110, subsequent_indent=" " * (wide + 4))
    lines = [wrapper.fill(f"  {group:{wide}}  {', '.join(names)}") for group, names in groups.items()]
    settings = [
        f"  {line}"
        for line in (TREE / CONFIG).read_text(encoding="utf-8").splitlines()
        if re.match(r"[a-z_]+: .*#", line)
    ]
    own = {"hydra/launcher": "local (by default, a queue of processes)", "hydra/sweeper": "grid (by default, all jobs)"}
    plugins = [
        f"{group}={', '.join([first, *sorted(file.stem for file in (TREE / group).glob('*.yaml'))])}"
        for group, first in own.items()
    ]
    return USAGE.format(groups="\n".join(lines), settings="\n".join(settings), plugins="\n".join(plugins))
