"""Sharded tensors: put together for a checkpoint, cut again when one is loaded."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(state: Any) -> Any:
    """A state with each sharded tensor in it put together, on the CPU: of the first rank, while others have none of it.

    All ranks must call it.
    """
    if isinstance(state, DTensor):
        full = state.full_tensor().cpu()
        return full if dist.get_rank() == 0 else full.new_empty(0)
    if isinstance(state, dict):
        return {key: whole(each) for key, each in state.items()}
    return [whole(each) for each in state] if isinstance(state, list) else state


def share_of(value: Any, like: Tensor | None) -> Any:
    """This rank's share of a whole tensor, cut and laid out in memory as `like` is; anything else as it is.

    A fused optimizer takes parameter and moments to be laid out alike, and a saved moment has the layout that it had.
    """
    if not isinstance(value, Tensor) or like is None or value.shape != like.shape or value.ndim == 0:
        return value
    if isinstance(like, DTensor):
        value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def local(tensor: Tensor) -> Tensor:
    """What this rank has of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
