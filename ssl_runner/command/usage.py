"""The command line of training and sweeps: its options, and `ssl-runner --help`."""

import argparse
import re
import textwrap
from pathlib import Path

from ssl_runner import __version__
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.describe import Setting, describe_choices, describe_settings, file_of
from ssl_runner.config.grammar import Override, read_overrides
from ssl_runner.config.override import choice_problems
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
       ssl-runner pack FOLDER SHARDS                     images of a folder as shards, for dataset=shards
       ssl-runner save RUN NAME                          a run as a recipe, ready to commit
       ssl-runner list [GROUP ...]                       every choice, and what it does
       ssl-runner GROUP=CHOICE --help                    its settings: type, range, default, meaning
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
settings of a sweep: sweep.jobs_per_device=1 (at once), sweep.devices_per_job=1 (GPUs of a job; processes on the CPU),
sweep.threads=N (of the CPU, a process), sweep.metric=knn/top1, sweep.on_error=continue|stop,
sweep.halving=0 (3: only the best third goes on at each rung), sweep.first_rung=0.1
{plugins}
"""


def main(words: list[str]) -> int:
    """Returns the exit status."""
    print(help_text())
    return 0


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


def print_help(arguments: argparse.Namespace) -> int:
    """The usage, or the settings of the choices that are typed. Returns the exit status."""
    if problems := missing_folder(arguments.config_dir):
        return refuse(problems)
    composer = composer_of(arguments)
    typed, problems = read_overrides(arguments.overrides, composer.groups)
    typed = [each for each in typed if each.key in composer.groups]
    problems += [line for each in typed for line in choice_problems(each, composer.groups[each.key])]
    if not (typed or problems):
        print(help_text())
        return 0
    try:
        for each in typed if not problems else ():
            for name in each.value if isinstance(each.value, list) else [each.value]:
                print_settings(composer, each, str(name), [each.text for each in typed])
    except ValueError as error:
        problems = str(error).splitlines()
    return refuse(problems) if problems else 0


def print_settings(composer: Composer, choice: Override, name: str, words: list[str]) -> None:
    """A choice's file if it is a recipe, or what it is and a line for each of its settings."""
    if choice.key == "experiment":
        print(file_of(composer, f"experiment/{name}").read_text(encoding="utf-8"))
        return
    place = (choice.mount or choice.key).removeprefix("_global_.")
    place = f"{place}.{name}" if choice.key == "evaluator" else place
    settings = describe_settings(composer, choice.key, name, place, words)
    rows = [Setting("setting", "type", "default", "meaning"), *settings]
    wide = [max(len(each[column]) for each in rows) for column in range(3)]
    print(f"{choice.key}={name}: {describe_choices(composer, choice.key)[name]}\n")
    for row in rows if settings else ():
        print("  ".join(["", *(text.ljust(size) for text, size in zip(row, wide, strict=False)), row.meaning]).rstrip())
    print()


def composer_of(arguments: argparse.Namespace) -> Composer:
    return Composer(arguments.config_dir, arguments.config_name.removesuffix(".yaml"))


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
