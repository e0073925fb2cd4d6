"""Export of a trained encoder: its files in a format, each checked against the encoder itself."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ssl_runner.contract import Samples
from ssl_runner.encoder.formats import FORMATS, Function, Named
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.encoder.peers import NoPeer
from ssl_runner.errors import one_line
from ssl_runner.run_folder.atomic import remove_halves, write

BATCHES = (1, 2, 3, 17)  # samples, in each of which a file must agree with the encoder
TOLERANCE = 1e-4  # of the largest feature; another runtime adds in another order, which costs about 1e-6


class Unequal(Exception):
    """An export that does not do what the encoder does."""


@dataclass(frozen=True)
class Export:
    """An encoder in one format: the files, their largest difference from the encoder, and its largest feature."""

    files: dict[str, bytes]
    difference: float
    largest: float

    def missing(self, folder: Path) -> dict[Path, bytes]:
        """The files that a folder does not hold as they are here."""
        files = {folder / name: content for name, content in self.files.items()}
        return {path: each for path, each in files.items() if not path.is_file() or path.read_bytes() != each}

    def differing(self, folder: Path) -> list[Path]:
        """Files of these names in a folder that are not these. They may be a stranger's: they are not loaded."""
        return [path for path in self.missing(folder) if path.exists()]

    def write(self, folder: Path) -> bool:
        """Writes what is missing. Returns whether anything was. Raises OSError."""
        missing = self.missing(folder)
        for name in self.files:
            remove_halves(folder / name)
        for path, content in missing.items():
            write(path, content)
        return bool(missing)


def export(name: str, source: TrainedEncoder) -> Export:
    """The encoder in a format. Raises Unequal if the encoder has no such form."""
    kind = FORMATS[name]
    try:
        content = kind.make(source)
        beside = kind.beside(source)
        worst, largest = difference(Named(source.encoder), kind.use(content, source), source.samples)
    except Unequal:
        raise
    except NoPeer as error:
        raise Unequal(str(error)) from None
    except Exception as error:  # exporters raise many kinds of errors, and one format must not cost the others
        reason = one_line(error)[:300] or type(error).__name__
        raise Unequal(f"cannot be exported ({type(error).__name__}: {reason})") from error
    return Export({kind.file: content, **beside, **source.assets}, worst, largest)


@torch.no_grad()
def difference(one: Function, other: Function, samples: Samples) -> tuple[float, float]:
    """The largest difference of any feature on samples of noise, and the largest feature of `one`.

    Raises Unequal if it is beyond TOLERANCE, or a feature is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    worst = largest = torch.zeros(())
    for size in BATCHES:
        x = samples.example(size, generator)
        wanted, given = one(x), other(x)
        for name in given:
            a, b = wanted[name], given[name]
            if a.shape != b.shape:
                raise Unequal(f"{name} has shape {tuple(b.shape)}, and the encoder's has {tuple(a.shape)}")
            worst = torch.maximum(worst, (a - b).abs().max())  # NaN if any is, unlike Python's max
            largest = torch.maximum(largest, a.abs().max())
    if not worst <= TOLERANCE * largest:
        raise Unequal(f"features differ by up to {worst:.2g}, and the largest is {largest:.3g}")
    return worst.item(), largest.item()
