"""Estimate of the memory that training takes, by building on torch's meta device, before anything is allocated."""

import os

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ssl_runner.contract import Samples
from ssl_runner.errors import one_line
from ssl_runner.run.job import Job, processes_of

BYTES = 16  # a float32 parameter with its gradient and Adam's two averages
PARTS = 10_000  # parameter tensors; nobody means a network of more


class TooLarge(ValueError):
    """A network that the memory cannot hold."""


def check_size(job: Job, samples: Samples, rows: int) -> list[str]:
    """A line if encoder or pretext task are larger than the memory that they would be trained in."""
    memory, total, count = available_memory(job), 0, 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total, count
        if isinstance(parameter, torch.Tensor):
            total, count = total + parameter.numel() * BYTES, count + 1
        if total > memory or count > PARTS:
            raise TooLarge(
                f"a network of at least {total / BYTES:,.0f} parameters in {count:,} tensors, whose training takes "
                f"{total / 1e9:,.1f} GB, and there are {memory / 1e9:,.1f} GB; choose smaller sizes"
            )

    part = "model"
    hook = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"):
            encoder = job.build_encoder(samples)
            part = "pretext"
            job.pretext.build(encoder=encoder, rows=rows, samples=samples, shape=samples.shape)
    except (TooLarge, MemoryError) as error:
        return [f"{part}: {error}"]
    except (OverflowError, TypeError) as error:  # torch's words for a size that it cannot hold
        return [f"{part}: {one_line(error)[:200]}; choose smaller sizes"]
    except Exception:  # the check that really builds has better words
        return []
    finally:
        hook.remove()
    return []


def available_memory(job: Job) -> float:
    """Bytes of the device, of all devices that a model is sharded over, or of RAM if it is the CPU or cannot be had."""
    try:
        placement = job.device.build()
        if placement.device.type == "cuda":
            shards = processes_of(placement) if placement.strategy == "fsdp" else 1
            return float(shards * torch.cuda.get_device_properties(placement.device).total_memory)
    except (ValueError, RuntimeError):
        pass
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
