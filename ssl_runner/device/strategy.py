"""Strategies of distributed training: the whole model in each process (DDP), or a share of it (FSDP2)."""

import contextlib
import warnings
from contextlib import AbstractContextManager
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_runner.device import ranks
from ssl_runner.device.batch_norm import synchronise
from ssl_runner.device.placement import Placement

M = TypeVar("M", bound=nn.Module)
UNUSED = "find_unused_parameters=True was specified"


def synchronised(module: M, placement: Placement) -> M:
    """The module with batch norm over all ranks, if there are several and the placement asks for it."""
    return synchronise(module, placement.device) if ranks.count() > 1 and placement.sync_batch_norm else module


def distributed(module: nn.Module, placement: Placement) -> nn.Module:
    """The module as a step calls it; with one process, the module itself.

    Parameters that a forward pass does not reach are looked for: an adversary's, while its rival learns. Buffers are
    left alone: all ranks come to the same.
    """
    if ranks.count() == 1:
        return module
    warnings.filterwarnings("ignore", UNUSED)  # they are looked for on purpose
    devices = [placement.device] if placement.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 has another name for it, which 2.8 does not know
        return DistributedDataParallel(module, devices, find_unused_parameters=True, broadcast_buffers=False)


def gradients_of(module: nn.Module, last: bool) -> AbstractContextManager:
    """The context of a micro-batch: gradients are averaged over ranks in the last one of a step."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return contextlib.nullcontext()
