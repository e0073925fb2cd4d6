"""Fetching rows of a data set by index, sending them to a device, keeping them there whole if they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ssl_runner.contract import Rows

RESIDENT_SHARE = 0.4  # of the device's free memory that a training set may take; a larger one is fetched batch by batch
RESIDENT_BYTES = 8 * 2**30  # the same on a CPU or MPS, where free memory is not the process's alone


def pinned(x: Tensor, device: torch.device) -> Tensor:
    """In page-locked memory if the device is a GPU, which then fetches it while the host goes on."""
    return x.pin_memory() if device.type == "cuda" else x


def send(x: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it to arrive."""
    return pinned(x, device).to(device, non_blocking=device.type == "cuda")


def fetch(rows: Rows, index: Tensor) -> Tensor:
    """rows[index]; of a tensor in a fifth of the time on a CPU, since whole rows are copied."""
    return rows.index_select(0, index) if isinstance(rows, Tensor) else rows[index]


def resident(rows: Rows, device: torch.device) -> Tensor | None:
    """All rows as one tensor on the device, or None if they would take too much of its memory."""
    one = rows[torch.arange(1)]
    size = len(rows) * one.numel() * one.element_size()
    room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else RESIDENT_BYTES
    if size > room:
        return None
    if isinstance(rows, Tensor):
        return rows.to(device)
    whole = torch.empty((len(rows), *one.shape[1:]), dtype=one.dtype, device=device)
    for index in torch.arange(len(rows)).split(4096):
        whole[index[0] : index[-1] + 1] = rows[index].to(device)
    return whole
