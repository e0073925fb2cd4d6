"""Export formats: how a file is made of an encoder, how it is used, the two lines that load it.

Files for torch are torch.export programs: TorchScript is deprecated, and its own documentation names torch.export
instead (https://docs.pytorch.org/docs/stable/jit.html).
"""

import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

from ssl_runner.contract import Encoder
from ssl_runner.encoder.load import TrainedEncoder, restored_encoder, serialised
from ssl_runner.run_folder.layout import WEIGHTS

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}  # modules that a format cannot do without
INSTALL = "pip install 'ssl-runner[onnx]'"

Function = Callable[[Tensor], tuple[Tensor, Tensor]]  # samples to pooled features and tokens


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is made of an encoder, how its content is used, and the lines that load it anywhere."""

    file: str
    make: Callable[[TrainedEncoder], bytes]
    use: Callable[[bytes, TrainedEncoder], Function]
    lines: str  # {folder} and {path} are the place of the file


def use_safetensors(content: bytes, source: TrainedEncoder) -> Function:
    return outputs(restored_encoder(source.recipe, from_safetensors(content), Path(WEIGHTS)))


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


def use_torch(content: bytes, source: TrainedEncoder) -> Function:
    """Only for what was made in this process: loading it unpickles."""
    module = torch.export.load(io.BytesIO(content)).module()

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        features = module(x)
        return features["pooled"], features["tokens"]

    return run


def make_onnx(source: TrainedEncoder) -> bytes:
    made = torch.onnx.export(
        program(source),
        (),
        input_names=["x"],
        output_names=["pooled", "tokens"],
        dynamic_shapes={"x": {0: "batch"}},  # the name that the graph shows
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    return made.model_proto.SerializeToString()


def use_onnx(content: bytes, source: TrainedEncoder) -> Function:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, tokens = session.run(["pooled", "tokens"], {"x": x.numpy()})
        return torch.from_numpy(pooled), torch.from_numpy(tokens)

    return run


FORMATS = {
    "safetensors": Format(
        WEIGHTS,
        lambda source: serialised(source.encoder),
        use_safetensors,
        "from ssl_runner.encoder.load import load_encoder\n"
        'encoder = load_encoder("{folder}")  # encoder(x).pooled, encoder(x).tokens',
    ),
    "torch": Format(
        "encoder.pt2",
        make_torch,
        use_torch,
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


def outputs(encoder: Encoder) -> Function:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            features = encoder(x)
        return features.pooled, features.tokens

    return run
