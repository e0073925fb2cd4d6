"""Export of a trained encoder to safetensors, torch.export and ONNX, each checked against the encoder itself.

Files for torch are torch.export programs: TorchScript is deprecated, and its own documentation names torch.export
instead (https://docs.pytorch.org/docs/stable/jit.html).
"""

import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

from ssl_runner.config import files
from ssl_runner.config.migrate import stamped
from ssl_runner.contract import Encoder, Samples
from ssl_runner.encoder.load import TrainedEncoder, restored_encoder
from ssl_runner.run_folder.atomic import HALVES, remove_abandoned, write
from ssl_runner.run_folder.layout import ENCODER, WEIGHTS
from ssl_runner.run_folder.weights import serialise_weights

BATCHES = (1, 2, 3, 17)  # samples, in each of which a file must agree with the encoder
TOLERANCE = 1e-4  # of the largest feature; another runtime adds in another order, which costs about 1e-6
OUTPUTS = ["pooled", "tokens"]
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}  # modules that a format cannot do without
INSTALL = "pip install 'ssl-runner[onnx]'"

Function = Callable[[Tensor], Mapping[str, Tensor]]  # samples to pooled features and tokens


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
            remove_abandoned(folder, name + HALVES.removeprefix("*"))
        for path, content in missing.items():
            write(path, content)
        return bool(missing)


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is made of an encoder, how its content is used, and the lines that load it anywhere."""

    file: str
    make: Callable[[TrainedEncoder], bytes]
    use: Callable[[bytes, TrainedEncoder], Function]
    lines: str  # {folder} and {path} are the place of the file


def export(name: str, source: TrainedEncoder) -> Export:
    """The encoder in a format. Raises Unequal if the encoder has no such form."""
    kind = FORMATS[name]
    try:
        content = kind.make(source)
        worst, largest = difference(Named(source.encoder), kind.use(content, source), source.samples)
    except Unequal:
        raise
    except Exception as error:  # exporters raise many kinds of errors, and one format must not cost the others
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise Unequal(f"cannot be exported ({type(error).__name__}: {reason})") from error
    recipe = {ENCODER: files.dump(stamped(source.recipe)).encode()} if name == "safetensors" else {}
    return Export({kind.file: content, **recipe}, worst, largest)


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
        for name in OUTPUTS:
            a, b = wanted[name], given[name]
            if a.shape != b.shape:
                raise Unequal(f"{name} has shape {tuple(b.shape)}, and the encoder's has {tuple(a.shape)}")
            worst = torch.maximum(worst, (a - b).abs().max())  # NaN if any is, unlike Python's max
            largest = torch.maximum(largest, a.abs().max())
    if not worst <= TOLERANCE * largest:
        raise Unequal(f"features differ by up to {worst:.2g}, and the largest is {largest:.3g}")
    return worst.item(), largest.item()


class Named(nn.Module):
    """An encoder as exported programs have it: samples to `pooled` and `tokens`."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encoder(x)
        return {"pooled": features.pooled, "tokens": features.tokens}


def program(source: TrainedEncoder) -> torch.export.ExportedProgram:
    """The encoder as a graph for any number of samples of its shape."""
    batch = torch.export.Dim("batch", min=1)
    example = source.samples.example(2, torch.Generator().manual_seed(0))  # not 1, which would be taken for a constant
    with torch.no_grad():
        exported = torch.export.export(Named(source.encoder).eval(), (example,), dynamic_shapes={"x": {0: batch}})
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return exported


def make_torch(source: TrainedEncoder) -> bytes:
    file = io.BytesIO()
    torch.export.save(program(source), file)
    return file.getvalue()


def make_onnx(source: TrainedEncoder) -> bytes:
    shown: dict[str, Any] = {"input_names": ["x"], "output_names": OUTPUTS, "dynamic_shapes": {"x": {0: "batch"}}}
    made: Any = torch.onnx.export(program(source), (), dynamo=True, verbose=False, **shown)
    return made.model_proto.SerializeToString()


def use_onnx(content: bytes, source: TrainedEncoder) -> Function:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> dict[str, Tensor]:
        values = session.run(OUTPUTS, {"x": x.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(OUTPUTS, values, strict=True)}

    return run


FORMATS = {
    "safetensors": Format(
        WEIGHTS,
        lambda source: serialise_weights(source.encoder.state_dict()),
        lambda content, source: Named(restored_encoder(source.recipe, from_safetensors(content), Path(WEIGHTS))),
        "from ssl_runner.encoder.load import load_encoder\n"
        'encoder = load_encoder("{folder}")  # encoder(x).pooled, encoder(x).tokens',
    ),
    "torch": Format(
        "encoder.pt2",
        make_torch,
        # loading unpickles: only what was made in this process
        lambda content, source: torch.export.load(io.BytesIO(content)).module(),
        'import torch\nencoder = torch.export.load("{path}").module()  # encoder(x)["pooled"], encoder(x)["tokens"]',
    ),
    "onnx": Format(
        "encoder.onnx",
        make_onnx,
        use_onnx,
        'import onnxruntime\nencoder = onnxruntime.InferenceSession("{path}")  # '
        'encoder.run(["pooled", "tokens"], {{"x": x.numpy()}})',
    ),
}


def missing(name: str) -> list[str]:
    """The modules that a format needs and that are not installed."""
    return [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
