"""Devices, precision and memory of the contestants: the only file of the benchmark that knows of them."""

import ctypes
import inspect
import os
import sys
from contextlib import AbstractContextManager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import torch
from torch import Tensor, nn

from ssl_runner.contract import Optimizer
from ssl_runner.data.machine import usable_cores
from ssl_runner.device.placement import Placement

M = TypeVar("M", bound=nn.Module)


class Place:
    """Where a peer computes: the job's device, precision and threads.

    By itself a peer gets torch as torch comes: on a CPU an optimizer that loops over the tensors, where the runner's is
    one fused kernel. With `ours` it is given all that the runner gives itself: the C library's allocator as it keeps
    memory (the whole process's), channels_last for model and images, cuDNN's benchmark, the optimizer with the runner's
    own options and groups, and torch.compile where the job asks for it.
    """

    def __init__(self, placement: Placement, ours: bool):
        self.placement, self.ours, self.device = placement, ours, placement.device
        if ours:
            placement.apply()
        elif placement.threads is not None:
            torch.set_num_threads(placement.threads)

    def model(self, module: M) -> M:
        return self.placement.place(module) if self.ours else module.to(self.device)

    def compiled(self, module: nn.Module) -> nn.Module:
        return self.placement.compiled(module) if self.ours else module

    def step_begins(self) -> None:
        """What CUDA graphs are to be told, as the runner tells them."""
        if self.ours:
            self.placement.step_begins()

    def images(self, x: Tensor) -> Tensor:
        x = x.to(self.device, non_blocking=True)
        last = self.ours and self.placement.channels_last and x.ndim == 4
        return x.contiguous(memory_format=torch.channels_last) if last else x

    def autocast(self) -> AbstractContextManager:
        return self.placement.autocast()

    def optimizer(self, recipe: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """The job's, at its highest learning rate. Without `ours` all parameters are one group and decay alike, and
        how the step is computed is left to torch, as in the peers' examples."""
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        built = recipe.build(trained)
        if self.ours or not type(built).__module__.startswith("torch."):  # torch has no default of the runner's own
            return built
        known = inspect.signature(type(built)).parameters
        options = {key: value for key, value in built.defaults.items() if key in known and key != "fused"}
        options["weight_decay"] = max(group["weight_decay"] for group in built.param_groups)
        return type(built)([p for _, p in trained], **options)

    def synchronise(self) -> None:
        synchronise(self.device)

    @property
    def workers(self) -> tuple[int, ...]:
        """Numbers of a DataLoader's worker processes to choose the best of: 0 and one a core; beside a GPU and with
        more than eight cores 8 and one a core, at most 16."""
        cores = usable_cores()
        return (8, min(16, cores)) if self.device.type == "cuda" and cores > 8 else (0, cores)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def give_memory_back() -> None:
    """What is free but kept: contestants that wait should not starve the one that runs."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_mb() -> float:
    """RAM that this process holds now; the most that it has held where the system does not tell the former."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123  of the kernel's, and read often
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Placement(name="cpu").peak_memory_mb()


def machine(device: str) -> str:
    """A line about what was measured on, and by which versions. Raises ValueError where there is no such device."""
    name = "unknown processor"
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            name = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), name)
    placement = Placement(name=device)  # type: ignore[arg-type]
    gpu = f"{torch.cuda.get_device_name(placement.device)}, " if placement.device.type == "cuda" else ""
    versions = [f"torch {torch.__version__}", *([f"CUDA {torch.version.cuda}"] if torch.version.cuda else [])]
    for package in ("lightly", "lightning", "kornia"):
        with suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return f"{gpu}{name}, {usable_cores()} cores, {torch.get_num_threads()} threads, {', '.join(versions)}"
