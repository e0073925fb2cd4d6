"""Weights among parameters: those that weight decay and penalties shrink."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

LEARNT_INPUTS = {"token", "tokens", "position", "positions", "pos", "places", "rel", "class", "cls", "mask"}
BIASES = {"bias", "biases"}


def is_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter multiplies activations: two dimensions or more, and no learnt token or position.

    It leaves out biases, the scales of norms, and parameters with a word of LEARNT_INPUTS or BIASES in their own name
    (`class_token`, `pos_embed`, LeViT's `attention_biases`). Weight decay and the regularisers on weights draw the same
    line.
    """
    own = name.rpartition(".")[2]
    if parameter.ndim < 2 or not (LEARNT_INPUTS | BIASES).isdisjoint(own.split("_")):
        return False
    # A scale a channel may have further dimensions of 1: `gain` of NFNet, `gamma` of FastViT, `logit_scale` of Swin v2.
    return parameter.ndim == 2 or own == "weight" or parameter.numel() > max(parameter.shape)


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of a module are; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module by name, each whole, if it is sharded; all ranks must call it."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in module.state_dict().items()}


def weights(module: nn.Module) -> list[Float[Tensor, "..."]]:
    """The trainable weights of a module, as they lie in it; each whole, if it is sharded, with gradient to the shares.

    Raises ValueError if there is none.
    """
    named = ((name, p) for name, p in module.named_parameters() if p.requires_grad)
    trainable = [p.full_tensor() if isinstance(p, DTensor) else p for name, p in named if is_weight(name, p)]
    if not trainable:
        raise ValueError(f"{type(module).__name__} has no trainable weights to penalise; use regulariser=none")
    return trainable
