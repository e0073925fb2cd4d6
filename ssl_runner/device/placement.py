"""Device, precision, memory format and compilation of a run."""

import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ssl_runner.errors import plural
from ssl_runner.layers.bf16 import multiplies_bf16
from ssl_runner.layers.gather import rank_and_count
from ssl_runner.layers.ranges import Natural, Positive, Processes, Threads

PRECISION = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
TOP_PAD = 64 * 2**20  # bytes that the heap grows by at once
NEVER = 2**31 - 1
SLOW = 2.0  # times as long as in float32, of a product of matrices, from which on a precision is warned of
M = TypeVar("M", bound="nn.Module")


class Placement:
    """Device, precision, memory format, compilation, determinism and threads of a run.

    `name=auto` takes the first of cuda, mps and cpu that this machine has. `precision` bf16 and fp16 are autocast
    around float32 weights; fp16 scales the loss; auto is bf16 where the device has units for it, and float32 elsewhere.
    `channels_last` None takes that memory format if it is known to be faster: on a CPU, and on CUDA under autocast.
    `compile` is torch.compile in its default mode, or in the mode of that name, of which reduce-overhead replays CUDA
    graphs; on a CPU none pays (docs/performance.md). `threads` is the number of CPU threads; None leaves it to torch.

    `processes` share each batch: auto is one a GPU of this machine, and one without a GPU. Under torchrun or srun there
    are as many as were started, whatever is set here. `strategy` ddp has the whole model in each; fsdp shards it,
    with its gradients and the optimizer's state. `sync_batch_norm`: batch norm has the statistics of all processes'
    rows, so that results do not depend on their number. `timeout`: seconds after which a step that some process did
    not take part in ends the job. `restarts`: how often a job whose process has died goes on from its last checkpoint.
    Raises ValueError if the machine has no such device.
    """

    def __init__(
        self,
        *,
        name: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        precision: Literal["auto", "float32", "bf16", "fp16"] = "float32",
        channels_last: bool | None = None,
        compile: bool | Literal["reduce-overhead", "max-autotune"] = False,
        deterministic: bool = False,
        threads: Threads | None = None,
        processes: Processes | Literal["auto"] = 1,
        strategy: Literal["ddp", "fsdp"] = "ddp",
        sync_batch_norm: bool = True,
        timeout: Positive = 600.0,
        restarts: Natural = 0,
    ):
        here = available()
        if name != "auto" and name not in here:
            raise ValueError(f"this machine has no {name} device; it has {', '.join(here)}: type device={here[0]}")
        self.device = torch.device(here[0] if name == "auto" else name)
        if precision == "auto":
            precision = "bf16" if multiplies_bf16(self.device) else "float32"
        if channels_last is None:
            channels_last = self.device.type == "cpu" or (self.device.type == "cuda" and precision != "float32")
        self.name, self.precision, self.channels_last = name, precision, channels_last
        self.compile, self.deterministic, self.threads = compile, deterministic, threads
        gpus = torch.cuda.device_count() if self.device.type == "cuda" else 0
        self.processes = max(1, gpus) if processes == "auto" else processes
        self.strategy, self.sync_batch_norm, self.timeout, self.restarts = strategy, sync_batch_norm, timeout, restarts

    def apply(self) -> None:
        """Sets what torch keeps for the whole process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            # It costs time, and no run reads such memory.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(self.deterministic)
        torch.backends.cudnn.benchmark = not self.deterministic

    def place(self, module: M) -> M:
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module

    def compiled(self, module: nn.Module) -> nn.Module:
        mode = self.compile if isinstance(self.compile, str) else None
        compiled: Any = torch.compile(module, mode=mode) if self.compile else module
        return compiled

    def step_begins(self) -> None:
        """Lets CUDA graphs reuse the memory of the step before."""
        if self.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, PRECISION[self.precision])

    def slower(self) -> str:
        """What to type if `precision` makes this CPU slower, as one without units for it; nothing if it does not."""
        if self.device.type != "cpu" or self.precision == "float32":
            return ""
        ratio = seconds_of_product(PRECISION[self.precision]) / seconds_of_product(torch.float32)
        if ratio < SLOW:
            return ""
        said = f"device.precision={self.precision}: this CPU multiplies matrices {ratio:.0f} times as slowly in it"
        return f"{said} as in float32; type device.precision=float32"

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def peak_memory_mb(self) -> float:
        """The most memory the process has held: on the GPU, or in RAM if it computes on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)

    def __str__(self) -> str:
        count = rank_and_count()[1]
        several = f", {count} processes" if count > 1 else ""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}{several}"
        return f"{self.device.type}, {self.precision}, {plural(torch.get_num_threads(), 'thread')}{several}"


def seconds_of_product(dtype: torch.dtype, size: int = 256) -> float:
    """CPU seconds of a product of two square matrices, the best of three."""

    def seconds() -> float:
        begun = time.process_time()
        torch.mm(matrix, matrix)
        return time.process_time() - begun

    matrix = torch.ones(size, size, dtype=dtype)
    return min(seconds() for _ in range(3))


def available() -> list[str]:
    """The devices of this machine, the fastest first."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in here.items() if there]


def keep_freed_memory() -> None:
    """Lets glibc reuse large freed blocks instead of returning them to the system after every operation.

    By default each tensor above 32 MB is mapped anew, and every page of it faults on first use: of a convolutional
    network's step on two cores that is a third of the time. Does nothing if the C library is another.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
        libc.mallopt(M_TOP_PAD, TOP_PAD)


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Around a run in a process that goes on, as a notebook's: puts torch's settings back and frees its memory."""
    threads, warns = torch.get_num_threads(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()  # the peak is then this run's
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.backends.cudnn.benchmark = benchmark
        gc.collect()  # a trainer and its parts refer to each other
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
