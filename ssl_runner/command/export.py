"""`ssl-runner export RUN`: the encoder as files that need no run folder, each checked against the encoder itself.

safetensors is weights beside their config, for `ssl_runner.load`; torch is a torch.export program and onnx an ONNX
graph, which do without ssl_runner. Each takes any number of samples and normalises by itself. If the architecture is
theirs, torchvision, timm and huggingface (timm's form of a model on that hub) are the weights in their own key names,
for images that are normalised as is printed. MODEL_CARD.md, beside them, says what the encoder is.
"""

import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ssl_runner.duration import Phase
from ssl_runner.engine.console import Terminal, journal
from ssl_runner.errors import DONE, FAILED, refuse

if TYPE_CHECKING:
    from ssl_runner.encoder.export import Export
    from ssl_runner.encoder.load import TrainedEncoder

DEFAULT = ("safetensors", "torch", "onnx")
NAMES = (*DEFAULT, "torchvision", "timm", "huggingface")
CARD = "MODEL_CARD.md"
TAKES = {"image": "float32 in [0, 1]", "audio": "float32 in [-1, 1]", "text": "int64 ids"}


def main(words: list[str]) -> int:
    """Returns the exit status: 0 if every file is there, 1 if one could not be made."""
    parser = ArgumentParser(prog="ssl-runner export", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    source_help = "a run folder, a checkpoint RUN/checkpoints/NNN.pt, or an encoder.safetensors"
    parser.add_argument("run", type=Path, help=source_help)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write there, and not into RUN/export")
    parser.add_argument("--format", metavar="NAME[,NAME]", help=f"some of {','.join(NAMES)} (default: the first three)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there and differ")
    arguments = parser.parse_args(words)
    formats = list(dict.fromkeys(arguments.format.split(","))) if arguments.format else list(DEFAULT)
    if unknown := [name for name in formats if name not in NAMES]:
        return refuse([f"--format: given {name or 'nothing'}; possible are {', '.join(NAMES)}" for name in unknown])
    from ssl_runner.encoder.card import model_card
    from ssl_runner.encoder.export import Unequal, export
    from ssl_runner.encoder.formats import INSTALL, missing
    from ssl_runner.encoder.load import find_encoder  # torch is imported here, after all that needs none
    from ssl_runner.run_folder.atomic import remove_halves, write

    lacking = {name: f"{', '.join(modules)}: {INSTALL}" for name in formats if (modules := missing(name))}
    if arguments.format and lacking:
        return refuse([f"--format: {name} needs {remedy}" for name, remedy in lacking.items()])
    try:
        source = find_encoder(arguments.run)
    except (OSError, ValueError) as error:
        return refuse([str(error)])
    folder = arguments.to or default_folder(source)
    exports, errors = {}, []
    chosen = [each for each in formats if each not in lacking]
    with journal(console := Terminal()):
        for number, name in enumerate(chosen, start=1):
            with Phase(f"exporting {name}, {number} of {len(chosen)}", 1) as phase:
                phase.start()
                try:
                    exports[name] = export(name, source)
                except Unequal as reason:
                    errors.append(f"error: {name}: {reason}; nothing was written")
    differing = [path for each in exports.values() for path in each.differing(folder)]
    if differing and not arguments.overwrite:
        remedy = "name another folder with --to, or type --overwrite"
        return refuse(f"{path} is there and is not what would be written; {remedy}" for path in differing)
    try:
        written = {name for name, each in exports.items() if each.write(folder)}
        if exports and (arguments.overwrite or not (folder / CARD).exists()):  # its owner may have written more in it
            remove_halves(folder / CARD)
            write(folder / CARD, model_card(source))
    except OSError as error:
        return refuse([str(error)])
    show(source, folder, exports, written, console)
    for line in errors:
        console.print(line, style="red", soft_wrap=True)
    for name, remedy in lacking.items():
        console.print(f"\n{name} is left out, since it needs {remedy}", soft_wrap=True)
    return FAILED if errors else DONE


def default_folder(source: "TrainedEncoder") -> Path:
    """A folder that can be copied as it is. A checkpoint's has its step in its name; an export's own is added to."""
    if source.content is None:
        return source.folder
    name = "export" if source.weights.suffix != ".pt" else f"export-{source.weights.stem}"
    here = source.folder.is_absolute() and source.folder.is_relative_to(Path.cwd())
    return (source.folder.relative_to(Path.cwd()) if here else source.folder) / name


def show(
    source: "TrainedEncoder", folder: Path, exports: dict[str, "Export"], written: set[str], console: Console
) -> None:
    """How far each file is from the encoder, and how to load it."""
    from ssl_runner.encoder.export import BATCHES
    from ssl_runner.encoder.formats import FORMATS

    say, shape = partial(console.print, soft_wrap=True), source.samples.shape
    step = "" if source.step is None else f" of step {source.step}"
    size, name = "x".join(map(str, shape)), type(source.encoder).__name__
    say(f"{name}{step}: samples of {size} to {source.encoder.dim} features")
    if not exports:
        return
    table = Table("format", "file", "largest difference", "", box=None, pad_edge=False)
    for name, each in exports.items():
        table.add_row(name, FORMATS[name].file, f"{each.difference:.2g}", "" if name in written else "was there")
    console.print(table)
    largest = max(each.largest for each in exports.values())
    say(f"from the encoder, on {', '.join(map(str, BATCHES))} random samples; the largest feature is {largest:.3g}")
    say(f"folder: {folder}, with {CARD}\n")
    say(f"to load it (x: {TAKES[source.samples.kind]}, of shape (any number, {', '.join(map(str, shape))})):")
    for name in exports:
        lines = (
            FORMATS[name].lines(source).format(folder=folder.as_posix(), path=(folder / FORMATS[name].file).as_posix())
        )
        say("\n" + textwrap.indent(lines, "  "))
