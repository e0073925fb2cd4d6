"""Weights in the key names of torchvision and timm: an encoder's for elsewhere, and theirs for an encoder.

An encoder is a network of theirs behind the normalisation, which becomes the mean and std that its images need.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save
from torch import Tensor, nn

from ssl_runner.encoder.foreign import PREFIX, RESNET, TIMM
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.errors import one_line

VIT = "ssl_runner.model.vit.ViT"
WIDTHS = {192: "tiny", 384: "small"}  # of timm's vision transformers; others are larger ones with other settings
POSITIONS, CLASS = "pos_embed", "cls_token"


class NoPeer(ValueError):
    """A library that has no such architecture."""


@dataclass(frozen=True)
class Peer:
    """An encoder as a network of another library."""

    library: str  # torchvision or timm
    name: str  # of the architecture
    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)  # what timm's constructor is called with
    stem: Mapping[str, Any] | None = None  # the first convolution of a residual network, if it is another

    @property
    def lines(self) -> str:
        """Python that builds `model`."""
        if self.library == "torchvision":
            lines = ["import torch, torchvision", f"model = torchvision.models.{self.name}()"]
        else:
            words = "".join(f", {key}={value!r}" for key, value in self.settings.items())
            lines = ["import timm, torch", f'model = timm.create_model("{self.name}", num_classes=0{words})']
        if self.stem is not None:
            words = ", ".join(f"{key}={value!r}" for key, value in self.stem.items())
            lines.append(f"model.conv1 = torch.nn.Conv2d({words})")
            lines += ["model.maxpool = torch.nn.Identity()"] * self.is_small
        return "\n".join(lines + ["model.fc = torch.nn.Identity()"] * (self.library == "torchvision"))

    @property
    def is_small(self) -> bool:
        """Whether the network is one for small images."""
        return self.stem is not None and self.stem["stride"] == 1

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network as `lines` has it with weights, in eval mode. Raises NoPeer if they do not fit."""
        import timm
        import torchvision

        try:
            if self.library == "torchvision":
                model = torchvision.models.get_model(self.name)
                model.fc = nn.Identity()
            else:
                model = timm.create_model(self.name, num_classes=0, **self.settings)
            if self.stem is not None:
                model.conv1 = nn.Conv2d(**self.stem)
                model.maxpool = nn.Identity() if self.is_small else model.maxpool
            model.load_state_dict(dict(weights))
        except (RuntimeError, ValueError) as error:
            reason = one_line(error)[:200]
            raise NoPeer(f"{self.library}'s {self.name} is another network, or there is none ({reason})") from None
        return model.eval()


def peer_of(source: TrainedEncoder, library: str) -> Peer:
    """The encoder in a library's own architecture. Raises NoPeer with what is possible instead."""
    recipe, state, kind = source.recipe, source.encoder.state_dict(), str(source.recipe["_target_"])
    own = {name.removeprefix(PREFIX.get(kind, "")): each for name, each in state.items() if name not in ("mean", "std")}
    channels, *size = source.samples.shape
    if kind == RESNET:
        side = own["conv1.weight"].shape[2]
        stem = {"in_channels": channels, "out_channels": 64, "kernel_size": side, "stride": 1 if side == 3 else 2}
        stem |= {"padding": side // 2, "bias": False}
        return Peer(library, f"resnet{recipe['depth']}", own, stem=stem if side == 3 or channels != 3 else None)
    if kind == TIMM:
        name = str(recipe["name"])
        if library == "torchvision":
            return Peer(library, name.partition(".")[0], own)
        fixed = {"img_size": tuple(size)} if has_fixed_size(name) else {}
        return Peer(library, name, own, {"in_chans": channels, **fixed})
    if kind == VIT and library == "timm":
        return vit(source, own)
    possible = "timm, huggingface, torch" if kind == VIT else "safetensors, torch"
    raise NoPeer(f"{library} has no such {type(source.encoder).__name__}; possible are {possible} and onnx")


def has_fixed_size(name: str) -> bool:
    import timm

    known = timm.get_pretrained_cfg(name)
    return known is not None and known.fixed_input_size


def vit(source: TrainedEncoder, own: Mapping[str, Tensor]) -> Peer:
    """timm's vision transformer with our fixed positions as weights; a class token has none."""
    encoder: Any = source.encoder
    channels, *size = source.samples.shape
    width, prefix, depth = encoder.dim, encoder.prefix, encoder.read or len(encoder.blocks)
    unread = tuple(f"blocks.{number}." for number in range(depth, len(encoder.blocks)))
    read = {name: each for name, each in own.items() if not name.startswith(unread)}
    weights = {name.replace("patches.", "patch_embed.proj."): each for name, each in read.items()}
    positions = [encoder.positions.new_zeros(prefix, width), encoder.positions]
    weights |= {POSITIONS: torch.cat(positions)[None], **({CLASS: weights.pop("class_token")} if prefix else {})}
    settings = {"img_size": tuple(size), "patch_size": encoder.patch, "in_chans": channels, "embed_dim": width}
    settings |= {"depth": depth, "num_heads": source.recipe["heads"], "class_token": bool(prefix)}
    settings |= {"global_pool": "token" if prefix else "avg", "fc_norm": False}
    return Peer("timm", f"vit_{WIDTHS.get(width, 'base')}_patch16_224", weights, settings)


def peer_file(peer: Peer, source: TrainedEncoder) -> bytes:
    """Its weights as safetensors, with mean and std of its images in the metadata, the same bytes at each call."""
    state = source.encoder.state_dict()
    content = save({name: each.detach().cpu().contiguous() for name, each in peer.weights.items()})
    known = {"format": "pt", **{name: json.dumps(state[name].tolist()) for name in ("mean", "std")}}
    end = 8 + int.from_bytes(
        content[:8], "little"
    )  # of the header; safetensors itself would order its metadata at random
    header = json.dumps({"__metadata__": known, **json.loads(content[8:end])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def hub_config(peer: Peer, source: TrainedEncoder) -> bytes:
    """config.json of timm's models on the Hugging Face hub. Raises NoPeer if timm's own network was changed."""
    if peer.stem is not None:
        raise NoPeer(f"timm's {peer.name} has another first layer; train with model.stem=large, or export timm")
    state = source.encoder.state_dict()
    known = {"input_size": list(source.samples.shape), **{name: state[name].tolist() for name in ("mean", "std")}}
    known |= {
        "num_classes": 0,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "fixed_input_size": "img_size" in peer.settings,
    }
    content = {"architecture": peer.name.partition(".")[0], "num_classes": 0, "num_features": source.encoder.dim}
    return json.dumps({**content, "model_args": dict(peer.settings), "pretrained_cfg": known}, indent=2).encode()


def peer_function(content: bytes, peer: Peer, source: TrainedEncoder) -> Callable[[Tensor], dict[str, Tensor]]:
    """Samples to pooled features by the library's network with the weights of a file."""
    encoder: Any = source.encoder
    state = encoder.state_dict()
    model: Any = peer.build(from_safetensors(content))
    mean, std = (state[name].view(-1, 1, 1) for name in ("mean", "std"))
    pools = getattr(encoder, "has_head", True)  # a head of another width is none of ours

    def run(x: Tensor) -> dict[str, Tensor]:
        z = (x - mean) / std
        if pools:
            return {"pooled": model(z)}
        tokens, _ = encoder.tokens_of(model.forward_features(z), x.shape[2] / x.shape[3])
        return {"pooled": tokens.mean(1)}

    return run
