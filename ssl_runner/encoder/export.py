"""Export of a trained encoder to files, each checked against the encoder itself before it is written."""

from dataclasses import dataclass
from pathlib import Path

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
    """An export that does not do what the encoder does."""


@dataclass(frozen=True)
class Export:
    """An encoder in one format: the files, their largest difference from the encoder, and its largest feature."""

    files: dict[str, bytes]
    difference: float
    largest: float

    def differing(self, folder: Path) -> list[Path]:
        """Files of these names in a folder that are not these. They may be a stranger's: they are not loaded."""
        return [folder / name for name in self.missing(folder) if (folder / name).exists()]

    def missing(self, folder: Path) -> list[str]:
        """Names of files that a folder does not hold as they are here."""
        return [name for name, content in self.files.items() if not same(folder / name, content)]

    def write(self, folder: Path) -> bool:
        """Writes what is missing. Returns whether anything was. Raises OSError."""
        missing = self.missing(folder)
        for name in missing:
            write(folder / name, self.files[name])
        return bool(missing)


def same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def export(name: str, source: TrainedEncoder) -> Export:
    """The encoder in a format. Raises Unequal if the encoder has no such form."""
    kind = FORMATS[name]
    try:
        content = kind.make(source)
        worst, largest = difference(outputs(source.encoder), kind.use(content, source), source.samples)
    except Unequal:
        raise
    except Exception as error:  # exporters raise many kinds of errors, and one format must not cost the others
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise Unequal(f"cannot be exported ({type(error).__name__}: {reason})") from error
    made = {kind.file: content}
    if name == "safetensors":
        made[ENCODER] = files.dump(stamped(source.recipe)).encode()
    return Export(made, worst, largest)


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
        raise Unequal(f"features differ by up to {worst:.2g}, and the largest is {largest:.3g}")
    return worst, largest
