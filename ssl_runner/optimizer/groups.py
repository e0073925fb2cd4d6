"""Weight decay by parameter: weights decay; biases, norms, tokens and positions do not."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ssl_runner.layers.weights import is_weight

FUSED = ("cpu", "cuda")  # where torch has it for Adam and AdamW


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
    decayed = [p for name, p in parameters if is_weight(name, p)]
    kept = [p for name, p in parameters if not is_weight(name, p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, **weights},
        {"params": kept, "weight_decay": 0.0, **rest},
    ]
    return [group for group in groups if group["params"]]


def has_fused(parameters: list[tuple[str, nn.Parameter]]) -> bool:
    """Whether torch has one kernel for Adam's whole step where these are: a quarter of the time of its loop on a CPU.

    SGD's is not used: its momentum is not a number after a first step that fp16's scaler skips, and it fails where a
    parameter gets its first gradient later than others (torch 2.14).
    """
    return all(p.device.type in FUSED for _, p in parameters)
