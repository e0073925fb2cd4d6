"""`ssl-runner embed RUN PLACE`: features of the images, texts or recordings of a folder or a file, as one file.

A .npz holds `paths` (N,), `features` (N, dim) float32, and for texts `numbers` (N,): of the line, row or piece in its
file, from 1. A .parquet has the columns path, number and features. All is read as the run read its own, and a recording
is a row: the mean of its clips. Files that cannot be read are named and left out.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ssl_runner.data.text_files.reading import Unit
from ssl_runner.engine.console import Terminal
from ssl_runner.errors import DONE, are, plural, printable, refuse

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".npz", ".parquet")
FIRST = 10  # unreadable files that are named


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner embed", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    source_help = "a run folder, a checkpoint RUN/checkpoints/NNN.pt, or an encoder.safetensors"
    parser.add_argument("run", type=Path, help=source_help)
    parser.add_argument("place", type=Path, help="a folder, at any depth, or a file")
    where = "a .npz or .parquet to write (default: RUN/features/<name of the place>.npz)"
    parser.add_argument("--to", type=Path, metavar="FILE", help=where)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--text", metavar="COLUMN", help="of a table: the column of texts (as dataset.text)")
    parser.add_argument("--unit", choices=get_args(Unit), help="of a .txt: what is a text (as dataset.unit)")
    arguments = parser.parse_args(words)
    place, to = arguments.place, arguments.to
    if not place.exists():
        return refuse([f"PLACE: there is no folder or file {printable(place)}"])
    if to is not None and to.suffix not in SUFFIXES:
        return refuse([f"--to: given {printable(to)}; possible are files of {' and '.join(SUFFIXES)}"])
    from ssl_runner.device.placement import Placement
    from ssl_runner.encoder.load import find_encoder  # torch is imported here, after all that needs none
    from ssl_runner.engine.console import journal
    from ssl_runner.python.embed import embed
    from ssl_runner.python.given import PLURAL

    how = {key: value for key in ("text", "unit") if (value := getattr(arguments, key)) is not None}
    try:
        source = find_encoder(arguments.run)
        kind = source.samples.kind
        if how and kind != "text":
            return refuse([f"--{next(iter(how))}: is for texts, and {arguments.run} encodes {PLURAL[kind]}"])
        device = Placement(name=arguments.device)
        console = Terminal()
        with journal(console):
            found, features = embed(source, place, device, how)
        if not found.paths:
            return refuse(found.unreadable[:FIRST] or [f"PLACE: {printable(place)} holds no {PLURAL[kind]}"])
        whole = place.resolve()
        to = to or source.folder / "features" / f"{whole.stem if place.is_file() else whole.name}.npz"
        save(to, {"path": found.paths} | ({} if found.numbers is None else {"number": found.numbers}), features)
    except (OSError, ValueError, ImportError) as error:
        return refuse(str(error).splitlines())
    for line in found.unreadable[:FIRST]:
        print(f"cannot be read: {line}", file=sys.stderr)
    left = len(found.unreadable)
    rest = f"; {left:,} cannot be read and {are(left)} left out" if left else ""
    encoded = plural(len(features), PLURAL[kind].removesuffix("s"))
    count = f"{encoded} of {printable(place)}, {plural(features.shape[1], 'feature')} each"
    console.print(f"{count}{rest}", soft_wrap=True)
    console.print(f"written: {to}", soft_wrap=True)
    return DONE


def save(to: Path, keys: dict[str, list], features: "Tensor") -> None:
    """Writes the file at once. keys: columns beside the features, by name.

    Raises OSError, and ImportError with what to type for parquet.
    """
    import numpy as np

    from ssl_runner.run_folder.atomic import replacing

    to.parent.mkdir(parents=True, exist_ok=True)
    array = features.numpy()
    if to.suffix == ".npz":
        arrays: dict[str, Any] = {f"{name}s": np.array(each) for name, each in keys.items()}
        with replacing(to) as file:
            np.savez(file, **arrays, features=array)
        return
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ImportError("--to: parquet needs pyarrow; type pip install 'ssl-runner[notebook]'") from None
    rows = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    with replacing(to) as file:
        parquet.write_table(pa.table({**keys, "features": rows}), file)
