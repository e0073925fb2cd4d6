"""Formats of an exported encoder: safetensors, torch.export, ONNX, and the key names of torchvision and timm.

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
from ssl_runner.contract import Encoder
from ssl_runner.encoder.card import model_card
from ssl_runner.encoder.foreign import HUB
from ssl_runner.encoder.load import TrainedEncoder, restored_encoder
from ssl_runner.encoder.peers import hub_config, peer_file, peer_function, peer_of
from ssl_runner.run_folder.layout import ENCODER, WEIGHTS
from ssl_runner.run_folder.weights import serialise_weights

OUTPUTS = ["pooled", "tokens"]
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}  # modules that a format cannot do without
INSTALL = "pip install 'ssl-runner[onnx]'"

Function = Callable[[Tensor], Mapping[str, Tensor]]  # samples to pooled features and tokens, or the former alone


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is made of an encoder, how its content is used, and the lines that load it anywhere."""

    file: str
    make: Callable[[TrainedEncoder], bytes]
    use: Callable[[bytes, TrainedEncoder], Function]
    lines: Callable[[TrainedEncoder], str]  # {folder} and {path} are the place of the file
    beside: Callable[[TrainedEncoder], dict[str, bytes]] = lambda source: {}  # further files, by name


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


def peer_format(library: str, file: str, load: str, hub: bool = False) -> Format:
    """An encoder in a library's own key names. `load`: the line that loads them; `hub`: with what a model hub wants."""

    def lines(source: TrainedEncoder) -> str:
        state = source.encoder.state_dict()
        mean, std = ([round(value, 6) for value in state[name].tolist()] for name in ("mean", "std"))
        built = load if hub else f"{peer_of(source, library).lines}\n{load}"
        return f"{built}  # model.eval()(x), of x normalised by mean {mean} and std {std}"

    def beside(source: TrainedEncoder) -> dict[str, bytes]:
        folder, card = file.rpartition("/")[0], model_card(source, hub=True)
        peer = peer_of(source, library)
        return {f"{folder}/{HUB[1]}": hub_config(peer, source), f"{folder}/README.md": card} if hub else {}

    return Format(
        file,
        lambda source: peer_file(peer_of(source, library), source),
        lambda content, source: peer_function(content, peer_of(source, library), source),
        lines,
        beside,
    )


LOAD = 'from safetensors.torch import load_file\nmodel.load_state_dict(load_file("{path}"))'
FORMATS = {
    "safetensors": Format(
        WEIGHTS,
        lambda source: serialise_weights(source.encoder.state_dict()),
        lambda content, source: Named(restored_encoder(source.recipe, from_safetensors(content), Path(WEIGHTS))),
        lambda source: (
            'from ssl_runner import load\nencoder = load("{folder}")  # encoder(x).pooled, encoder(x).tokens'
        ),
        lambda source: {ENCODER: files.dump(stamped(source.recipe)).encode()},
    ),
    "torch": Format(
        "encoder.pt2",
        make_torch,
        # loading unpickles: only what was made in this process
        lambda content, source: torch.export.load(io.BytesIO(content)).module(),
        lambda source: (
            'import torch\nencoder = torch.export.load("{path}").module()  # encoder(x)["pooled"], encoder(x)["tokens"]'
        ),
    ),
    "onnx": Format(
        "encoder.onnx",
        make_onnx,
        use_onnx,
        lambda source: (
            'import onnxruntime\nencoder = onnxruntime.InferenceSession("{path}")  # '
            'encoder.run(["pooled", "tokens"], {{"x": x.numpy()}})'
        ),
    ),
    "torchvision": peer_format("torchvision", "torchvision.safetensors", LOAD),
    "timm": peer_format("timm", "timm.safetensors", LOAD),
    "huggingface": peer_format(
        "timm",
        f"huggingface/{HUB[0]}",
        'import timm\nmodel = timm.create_model("local-dir:{folder}/huggingface", pretrained=True)',
        hub=True,
    ),
}


def missing(name: str) -> list[str]:
    """The modules that a format needs and that are not installed."""
    return [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
