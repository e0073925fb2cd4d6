"""`ssl-runner pack FOLDER SHARDS`: images of a folder as shards, to be read in order from a disk or by URL.

Parts and classes are those of dataset=image_folder. The images of each part are in seeded random order, their files are
copied as they are, and beside the shards lies an index with their samples, bytes and checksums. Interrupted, it goes on
where it was once the same is typed again.
"""

import shlex
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_runner.engine.console import Terminal
from ssl_runner.errors import DONE, are, plural, printable, refuse

if TYPE_CHECKING:
    from ssl_runner.data.image_files.folders import Labels

LABELS: dict[str, "Labels"] = {"auto": "auto", "true": True, "false": False}
FIRST = 10  # unreadable images that are named


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = parse(words)
    from ssl_runner.data.image_files.folders import plan_rows
    from ssl_runner.data.shards.packing import Packing, is_packed  # torch is imported here, after all that needs none

    folder, to = arguments.folder, arguments.shards
    if not folder.is_dir():
        return refuse([f"FOLDER: there is no folder {printable(folder)}"])
    if to.is_dir() and to.resolve().is_relative_to(folder.resolve()):
        return refuse([f"SHARDS: {printable(to)} lies in {printable(folder)}; name a folder outside"])
    shares = {"test": arguments.test, "validation": arguments.validation}
    try:
        plan = plan_rows(folder, labels=LABELS[arguments.labels], shares=shares, split_seed=arguments.split_seed)
        size = int(arguments.size * 1e6)
        packing = Packing(folder, plan, arguments.format, size, arguments.stored, arguments.seed)
        if not plan.files:
            return refuse([f"FOLDER: {printable(folder)} holds no images{plan.describe_left_out()}"])
        console = Terminal()
        if is_packed(to, packing):
            console.print(f"{printable(to)} holds all of them already", soft_wrap=True)
            return show_next(to, console)
        above = next(each for each in (to, *to.absolute().parents) if each.exists())
        if (free := shutil.disk_usage(above).free) < packing.total:
            given = f"SHARDS: about {packing.total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
            return refuse([f"{given} at {printable(above)}; name a folder on a larger disk"])
        for line in (
            f"images: {plan.describe({part: len(rows) for part, rows in plan.parts.items()})}",
            *plan.warnings,
        ):
            console.print(line, soft_wrap=True)
        columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=len(plan.files))
            index = packing.write(to, lambda images: progress.advance(task, images))
    except KeyboardInterrupt:
        print(f"interrupted; type the same again to go on with {printable(to)}", file=sys.stderr)
        return 130
    except FileExistsError as error:
        return refuse([f"SHARDS: {error}; name an empty folder"])
    except (OSError, ValueError, ModuleNotFoundError) as error:
        return refuse([str(error)])
    for line in [f"left out: {line}" for line in packing.unreadable[:FIRST]]:
        console.print(line, style="yellow", soft_wrap=True)
    missing = len(plan.files) - len(index.table)
    rest = f"; {missing:,} cannot be read and {are(missing)} left out" if missing else ""
    total = sum(shard.bytes for shard in index.shards)
    packed = f"{plural(len(index.table), 'image')} in {plural(len(index.shards), 'shard')}"
    said = f"{packed}, {total / 1e6:,.1f} MB{rest}"
    console.print(said, soft_wrap=True)
    return show_next(to, console)


def show_next(to: Path, console: Terminal) -> int:
    """What to type to train on the shards."""
    words = shlex.join(["ssl-runner", "dataset=shards", f"dataset.root={to}"])
    console.print(f"to train on them: {words}", soft_wrap=True)
    return DONE


def parse(words: list[str]) -> Namespace:
    parser = ArgumentParser(prog="ssl-runner pack", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a tree of images, as of dataset=image_folder")
    parser.add_argument("shards", type=Path, help="the folder to write: an empty one, or what was begun in it")
    parser.add_argument("--size", type=within(float, 0.001), default=256, metavar="MB", help="of a shard (256)")
    formats = ("webdataset", "parquet")
    parser.add_argument("--format", choices=formats, default=formats[0], help="tar files, or the Hugging Face hub's")
    stored = "reduce larger images to JPEG of N pixels on the shorter side; those of more than 8 bits stay as they are"
    parser.add_argument("--stored", type=within(int, 8), metavar="N", help=stored)
    for part in ("validation", "test"):
        share = f"share of each class of the training images for {part} if there is no folder of it (0.1)"
        parser.add_argument(f"--{part}", type=within(float, 0, 0.99), default=0.1, metavar="SHARE", help=share)
    parser.add_argument("--split-seed", type=within(int, 0), default=0, metavar="N", help="of these shares (0)")
    parser.add_argument("--labels", choices=LABELS, default="auto", help="whether folders are classes (auto)")
    parser.add_argument("--seed", type=within(int, 0), default=0, metavar="N", help="of the order (0)")
    return parser.parse_args(words)


def within(kind: Callable[[str], float], low: float, high: float = 1e9) -> Callable[[str], float]:
    """A type of an argument: a number of a range."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ArgumentTypeError(f"given {printable(text)}; possible is a number from {low:g} to {high:g}")
        return value

    return read
