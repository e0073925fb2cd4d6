"""Export of a trained encoder to files, each checked against the encoder itself before it is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.contract import Samples
from ssl_runner.encoder.formats import FORMATS, Function, outputs
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import ENCODER

BATCHES = (1, 2, 3, 17)  # samples, in each of which a file must agree with the encoder
TOLERANCE = 1e-4  # of the largest feature; another runtime adds in another order, which costs about 1e-6


class Unequal(Exception):
    """A file that does not do what the encoder does."""


def difference(one: Function, other: Function, samples: Samples) -> tuple[float, float]:
    """The largest difference of any feature on samples of noise, and the largest feature of `one`.

    Raises Unequal if it is beyond TOLERANCE, or a feature is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    differences, largest = [], 0.0
    for size in BATCHES:
        x = samples.example(size, generator)
        for name, a, b in zip(("pooled", "tokens"), one(x), other(x), strict=True):
            if a.shape != b.shape:
                raise Unequal(f"{name} has shape {tuple(b.shape)}, and the encoder's has {tuple(a.shape)}")
            differences.append((a - b).abs().max())
            largest = max(largest, a.abs().max().item())
    worst = torch.stack(differences).max().item()  # NaN if any is, unlike Python's max
    if not worst <= TOLERANCE * largest:
        raise Unequal(f"features differ by up to {worst:.2g}, where the largest is {largest:.3g}")
    return worst, largest


def check_present(folder: Path, name: str, source: TrainedEncoder) -> tuple[float, float] | None:
    """The difference of a format's file that is in the folder already; None if there is none, or it lacks its recipe.

    A file may be a stranger's, and to load a .pt2 is to unpickle it: only safetensors are loaded, others are held
    against what would be written. Raises Unequal if the file is another encoder's.
    """
    path, recipe = folder / FORMATS[name].file, folder / ENCODER
    if name == "safetensors" and recipe.exists():
        try:
            same = architecture(files.read(recipe)) == architecture(source.recipe)
        except ValueError as error:
            raise Unequal(f"{recipe} is there and cannot be read ({error})") from None
        if not same:
            raise Unequal(f"{recipe} is there and describes another encoder")
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        if name != "safetensors" and content != FORMATS[name].make(source):
            raise Unequal("it differs from what would be written")
        found = difference(outputs(source.encoder), FORMATS[name].use(content, source), source.samples)
    except Exception as error:  # a foreign or torn file can raise anything
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise Unequal(f"{path} is there and is not this encoder ({reason})") from None
    return found if name != "safetensors" or recipe.exists() else None


def architecture(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what the weights hold as well, and more exactly."""
    return {key: value for key, value in recipe.items() if key not in ("mean", "std")}


def export(folder: Path, name: str, source: TrainedEncoder) -> tuple[float, float]:
    """Writes an encoder into a folder in a format, and returns what `difference` says of the file's content.

    Raises Unequal if the encoder has no such form, and then nothing is written; OSError.
    """
    kind = FORMATS[name]
    try:
        content = kind.make(source)
        found = difference(outputs(source.encoder), kind.use(content, source), source.samples)
    except Unequal:
        raise
    except Exception as error:  # exporters have a large zoo of errors, and one format is not to cost the others
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise Unequal(f"cannot be exported ({type(error).__name__}: {reason})") from error
    if name == "safetensors":
        write(folder / ENCODER, files.dump(stamped(source.recipe)).encode())
    write(folder / kind.file, content)
    return found


def load_lines(folder: Path, name: str) -> str:
    """The two lines of Python that load a format's file."""
    kind = FORMATS[name]
    return kind.lines.format(folder=folder.as_posix(), path=(folder / kind.file).as_posix())
