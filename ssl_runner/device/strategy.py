"""Strategies of distributed training: the whole model in each process (DDP), or a share of it (FSDP2)."""

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from ssl_runner.device import ranks
from ssl_runner.device.batch_norm import synchronise
from ssl_runner.device.placement import PRECISION, Placement

M = TypeVar("M", bound=nn.Module)
UNUSED = "find_unused_parameters=True was specified"
UNIT = 2**20  # parameters of a layer that is gathered by itself; smaller ones are gathered together


def synchronised(module: M, placement: Placement) -> M:
    """The module with batch norm over all ranks, if there are several and the placement asks for it."""
    return synchronise(module, placement.device) if ranks.count() > 1 and placement.sync_batch_norm else module


def distributed(module: nn.Module, placement: Placement) -> nn.Module:
    """The module as a step calls it, on its device; with one process, the module itself.

    Parameters that a forward pass does not reach are looked for: an adversary's, while its rival learns. Buffers are
    left alone: all ranks come to the same.
    """
    if ranks.count() > 1 and placement.strategy == "fsdp":
        return sharded(module, placement)
    module = placement.place(module)
    if ranks.count() == 1:
        return module
    warnings.filterwarnings("ignore", UNUSED)  # they are looked for on purpose
    devices = [torch.cuda.current_device()] if placement.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 has another name for it, which 2.8 does not know
        return DistributedDataParallel(module, devices, find_unused_parameters=True, broadcast_buffers=False)


def sharded(module: nn.Module, placement: Placement) -> nn.Module:
    """The module with each parameter cut along its first dimension, a share a rank.

    A large layer is gathered when it is called, and let go. All else is gathered for a step. bf16 is what is sent, and
    what gradients are computed in; they are added up in float32.
    """
    low = placement.precision == "bf16"
    reduced = MixedPrecisionPolicy(PRECISION["bf16"], torch.float32, cast_forward_inputs=False)
    policy = reduced if low else MixedPrecisionPolicy(cast_forward_inputs=False)
    mesh = init_device_mesh(placement.device.type, (ranks.count(),))
    for layer in [*large_layers(module)][::-1]:  # the inner ones first
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    return cast(nn.Module, fully_shard(module, mesh=mesh, mp_policy=policy))


def large_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Members of lists and sequences of layers, such as the blocks of a transformer, of UNIT parameters or more."""
    for parent in module.modules():
        for layer in parent.children() if isinstance(parent, nn.ModuleList | nn.Sequential) else ():
            if not isinstance(layer, nn.ModuleList) and sum(p.numel() for p in layer.parameters()) >= UNIT:
                yield layer


def gradients_of(module: nn.Module, last: bool) -> AbstractContextManager:
    """The context of a micro-batch: gradients are averaged over ranks in the last one of a step."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    elif isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return contextlib.nullcontext()


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Within, the parts of a wrapped module may be called by themselves: FSDP gathers their parameters."""
    if not isinstance(module, FSDPModule):
        yield
        return
    if "extra_repr" not in vars(module):  # any method: once registered, all is gathered as before a forward pass
        register_fsdp_forward_method(module, "extra_repr")
    module.extra_repr()
    try:
        yield
    finally:
        module.reshard()
