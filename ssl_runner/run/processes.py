"""Check of what several processes cannot share: a batch that does not divide, GPUs that are not there."""

import os

import torch

from ssl_runner.device.placement import Placement
from ssl_runner.device.torchrun import group_size
from ssl_runner.errors import are, plural
from ssl_runner.run.job import Job


def check_processes(job: Job, device: Placement, count: int) -> list[str]:
    """What several processes cannot do."""
    problems, gpus = [], torch.cuda.device_count()
    if job.batch_size % (count * job.accumulate):
        each = count * job.accumulate
        near = sorted({max(1, job.batch_size // each) * each, -(-job.batch_size // each) * each})
        shares = f"{count} processes" + (f" with accumulate={job.accumulate}" if job.accumulate > 1 else "")
        remedy = " or ".join(f"batch_size={each}" for each in near)
        problems.append(f"batch_size: given {job.batch_size}, which {shares} cannot share; type {remedy}")
    if device.device.type == "cuda" and device.processes > gpus and group_size(os.environ) == 1:
        there = f"there {are(gpus)} {plural(gpus, 'GPU')}"
        problems.append(f"device.processes: given {device.processes}, and {there}; type auto, or {gpus}")
    if device.device.type == "mps":
        problems.append(f"device: given mps, and {count} processes cannot share it; type device.processes=1")
    if device.compile == "reduce-overhead":
        why = f"CUDA graphs cannot hold what {count} processes say to each other"
        problems.append(f"device.compile: given reduce-overhead, and {why}; type device.compile=true")
    if device.strategy == "fsdp" and device.precision == "fp16":
        problems.append("device.precision: given fp16, whose loss scale shares of a model do not agree on; type bf16")
    return problems
