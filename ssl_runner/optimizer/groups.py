"""Which parameters decay."""

from collections.abc import Mapping
from typing import Any

from torch import nn

LEARNT_INPUTS = {"token", "tokens", "position", "positions", "pos", "class", "cls", "mask"}


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: two dimensions or more, and no learnt token or position.

    It leaves out biases, the scales of norms, and parameters with a word of LEARNT_INPUTS in their own name
    (`class_token`, `pos_embed`). Regularisers on weights draw the same line (parts/weights.py).
    """
    return parameter.ndim >= 2 and LEARNT_INPUTS.isdisjoint(name.rpartition(".")[2].split("_"))


def split(
    parameters: list[tuple[str, nn.Parameter]],
    weight_decay: float,
    *,
    weights: Mapping[str, Any] = {},
    rest: Mapping[str, Any] = {},
) -> list[dict[str, Any]]:
    """Parameter groups as torch.optim takes them: weights with decay, the rest without; an empty one is left out.

    `weights` and `rest` are further options of either group, in the optimizer's own words.
    """
    decayed = [p for name, p in parameters if decays(name, p)]
    kept = [p for name, p in parameters if not decays(name, p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, **weights},
        {"params": kept, "weight_decay": 0.0, **rest},
    ]
    return [group for group in groups if group["params"]]
