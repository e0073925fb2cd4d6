"""`ssl-runner export RUN`: the encoder as files that need no run folder, each checked against the encoder itself.

safetensors is weights beside their config, for `ssl_runner.encoder.load`; torch is a torch.export program and onnx an
ONNX graph, which do without ssl_runner. Each takes any number of float32 samples in [0, 1] and normalises by itself.
"""

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ssl_runner.errors import refuse

if TYPE_CHECKING:
    from ssl_runner.encoder.load import TrainedEncoder

NAMES = ("safetensors", "torch", "onnx")


def main(words: list[str]) -> int:
    """Returns the exit status: 0 where every file is there, 1 where one could not be made."""
    parser = argparse.ArgumentParser(
        prog="ssl-runner export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run", type=Path, help="a run folder, a checkpoint RUN/checkpoints/NNN.pt, or an encoder.safetensors"
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write there, and not into RUN/export")
    parser.add_argument("--format", metavar="NAME[,NAME]", help=f"some of {','.join(NAMES)} (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="replace files of another encoder")
    typed = parser.parse_args(words)
    formats = list(dict.fromkeys(typed.format.split(","))) if typed.format else list(NAMES)
    if unknown := [name for name in formats if name not in NAMES]:
        return refuse([f"--format: given {name or 'nothing'}; possible are {', '.join(NAMES)}" for name in unknown])
    from ssl_runner.encoder.export import Unequal, check_present
    from ssl_runner.encoder.formats import INSTALL, missing
    from ssl_runner.encoder.load import find_encoder  # torch is imported here, after all that needs none

    lacking = {name: modules for name in formats if (modules := missing(name))}
    if typed.format and lacking:
        return refuse([f"--format: {name} needs {', '.join(each)}: {INSTALL}" for name, each in lacking.items()])
    formats = [name for name in formats if name not in lacking]
    try:
        source = find_encoder(typed.run)
    except (OSError, ValueError) as error:
        return refuse([str(error)])
    folder = typed.to or place(source)
    there, problems = {}, []
    for name in formats:
        try:
            if (agrees := check_present(folder, name, source)) is not None:
                there[name] = agrees
        except (Unequal, OSError) as reason:
            problems.append(f"{reason}; name another folder with --to, or type --overwrite")
    if problems and not typed.overwrite:
        return refuse(problems)
    console = Console(highlight=False, markup=False)
    status = write(source, folder, formats, there, console)
    for name, modules in lacking.items():
        console.print(f"\n{name} is left out, since it needs {', '.join(modules)}: {INSTALL}", soft_wrap=True)
    return status


def place(source: "TrainedEncoder") -> Path:
    """A folder that can be copied as it is. A checkpoint's has its step in its name; an export's own is added to."""
    if source.content is None:
        return source.folder
    name = "export" if source.weights.suffix != ".pt" else f"export-{source.weights.stem}"
    here = source.folder.is_absolute() and source.folder.is_relative_to(Path.cwd())
    return (source.folder.relative_to(Path.cwd()) if here else source.folder) / name


def write(
    source: "TrainedEncoder", folder: Path, formats: list[str], there: dict[str, tuple[float, float]], console: Console
) -> int:
    """Makes the files that are not there, and says of each how far it is from the encoder and how to load it."""
    from ssl_runner.encoder.export import BATCHES, Unequal, export, load_lines
    from ssl_runner.encoder.formats import FORMATS

    size, step = "x".join(map(str, source.samples.shape)), "" if source.step is None else f" of step {source.step}"
    title = f"{type(source.encoder).__name__}{step}: samples of {size} to {source.encoder.dim} features"
    console.print(title, soft_wrap=True)
    table = Table("format", "file", "largest difference", "", box=None, pad_edge=False)
    made, largest = [], 0.0
    for name in formats:
        try:
            worst, largest = there[name] if name in there else export(folder, name, source)
        except (Unequal, OSError) as reason:
            console.print(f"error: {name}: {reason}; nothing was written", style="red", soft_wrap=True)
            continue
        made.append(name)
        table.add_row(name, FORMATS[name].file, f"{worst:.2g}", "was there" if name in there else "")
    if made:
        console.print(table)
        sizes = ", ".join(map(str, BATCHES))
        console.print(f"from the encoder, on {sizes} random samples; the largest feature is {largest:.3g}")
        console.print(f"folder: {folder}", soft_wrap=True)
        shape = ", ".join(map(str, source.samples.shape))
        x = {"image": "float32 in [0, 1]", "audio": "float32 in [-1, 1]", "text": "int64 ids"}[source.samples.kind]
        console.print(f"\nto load it (x: {x}, of shape (any number, {shape})):", soft_wrap=True)
    for name in made:
        console.print("\n" + textwrap.indent(load_lines(folder, name), "  "), soft_wrap=True)
    return 0 if made == formats else 1
