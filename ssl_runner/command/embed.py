"""`ssl-runner embed RUN FOLDER`: the features of every image in a folder, as one file with their paths.

A .npz holds `paths` (N,) and `features` (N, dim) float32; a .parquet the columns path and features. Images are read at
the size of the encoder's samples, as the run read its own; those that cannot be read are named and left out.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner.engine.console import Terminal
from ssl_runner.errors import DONE, printable, refuse

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".npz", ".parquet")
FIRST = 10  # unreadable images that are named


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner embed", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    source_help = "a run folder, a checkpoint RUN/checkpoints/NNN.pt, or an encoder.safetensors"
    parser.add_argument("run", type=Path, help=source_help)
    parser.add_argument("folder", type=Path, help="a folder of images, at any depth")
    place = "a .npz or .parquet to write (default: RUN/features/<name of the folder>.npz)"
    parser.add_argument("--to", type=Path, metavar="FILE", help=place)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or mps (auto)")
    arguments = parser.parse_args(words)
    folder, to = arguments.folder, arguments.to
    if not folder.is_dir():
        return refuse([f"FOLDER: there is no folder {printable(folder)}"])
    if to is not None and to.suffix not in SUFFIXES:
        return refuse([f"--to: given {printable(to)}; possible are files of {' and '.join(SUFFIXES)}"])
    from ssl_runner.data.image_files.listing import list_images
    from ssl_runner.device.placement import Placement
    from ssl_runner.encoder.load import find_encoder  # torch is imported here, after all that needs none
    from ssl_runner.engine.console import journal
    from ssl_runner.python.features import embed

    try:
        source = find_encoder(arguments.run)
        names = list_images(folder).files
        if source.samples.kind != "image" or not names:
            wrong = f"{printable(folder)} holds no images" if not names else f"{arguments.run} encodes no images"
            return refuse([f"FOLDER: {wrong}"])
        device = Placement(name=arguments.device)
        console = Terminal()
        with journal(console):
            paths, features, unreadable = embed(source, folder, names, device)
        to = to or source.folder / "features" / f"{folder.resolve().name}.npz"
        save(to, paths, features)
    except (OSError, ValueError, ImportError) as error:
        return refuse(str(error).splitlines())
    for line in unreadable[:FIRST]:
        print(f"cannot be read: {line}", file=sys.stderr)
    rest = f"; {len(unreadable):,} cannot be read and are left out" if unreadable else ""
    console.print(f"{len(paths):,} images of {printable(folder)}, {features.shape[1]} features each{rest}")
    console.print(f"written: {to}", soft_wrap=True)
    return DONE


def save(to: Path, paths: list[str], features: "Tensor") -> None:
    """Writes the file at once. Raises OSError, and ImportError with what to type for parquet."""
    import numpy as np

    from ssl_runner.run_folder.atomic import replacing

    to.parent.mkdir(parents=True, exist_ok=True)
    array = features.numpy()
    if to.suffix == ".npz":
        with replacing(to) as file:
            np.savez(file, paths=np.array(paths), features=array)
        return
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ImportError("--to: parquet needs pyarrow; type pip install 'ssl-runner[notebook]'") from None
    rows = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    with replacing(to) as file:
        parquet.write_table(pa.table({"path": paths, "features": rows}), file)
