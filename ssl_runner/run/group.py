"""Process group of a run: its processes meet, and the first one sends the others the plan that all carry out."""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ssl_runner.device import ranks
from ssl_runner.device.placement import Placement
from ssl_runner.errors import FAILED, Refused
from ssl_runner.run_folder.atomic import HALF

PLAN, READ = "plan", "read"  # keys of the store
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
MEETING = timedelta(minutes=30)  # for all to start: nodes of a cluster do not at once
CHECKING = timedelta(days=7)  # for the first to check the job and to make its data ready
GPU_MARGIN = 60.0  # seconds more for collectives on GPUs: those on the hosts time out first, with a clear error
READING = 10.0  # seconds for the others to read the exit status, if nothing begins
EXIT_DELAY = 1.0  # seconds by which the others end after the first, whose status torchrun then reports
LISTING = 30.0  # seconds for a new file to be seen on all nodes: network file systems cache listings


@dataclass(frozen=True)
class Plan:
    """All that a process must know to carry out a run together with others: plain values, sent as JSON."""

    folder: str  # absolute
    content: Mapping[str, Any]  # the resolved config
    overrides: Sequence[str]
    start: str | None  # the folder that relative paths start from; None for the current one
    history: Mapping[str, Any]
    rewrites: bool = False
    token: str = ""  # name of a file in the folder, by which other nodes know it


_meeting: dist.Store | None = None  # where processes that were started together meet, until they have a plan


def join(command: Callable[[], int], work: Callable[[Plan], int]) -> int:
    """Runs a command in the first process of a group; the others `work` on the run that it begins, if it does.

    Returns the exit status, which is the same in all of them if nothing was begun.
    """
    global _meeting
    _meeting = meet()
    if int(os.environ["RANK"]) > 0:
        _meeting.wait([PLAN], CHECKING)
        plan_or_status = json.loads(_meeting.get(PLAN))
        _meeting.add(READ, 1)
        if not isinstance(plan_or_status, int):
            return work(Plan(**plan_or_status))
        time.sleep(EXIT_DELAY)
        return plan_or_status
    status = FAILED
    try:
        status = command()
    finally:
        if _meeting is not None:  # nothing was announced
            _meeting.set(PLAN, json.dumps(status))
            until = time.monotonic() + READING
            while _meeting.add(READ, 0) < int(os.environ["WORLD_SIZE"]) - 1 and time.monotonic() < until:
                time.sleep(0.05)
    return status


def meet() -> dist.Store:
    """The store in which the processes of a group meet. After a restart it holds nothing of the attempt before."""
    store, _, _ = next(iter(dist.rendezvous("env://", timeout=MEETING)))
    return dist.PrefixStore(f"ssl_runner/{os.environ.get(RESTARTS, 0)}", store)


def announce(plan: Plan, placement: Placement) -> bool:
    """Sends a plan to the other processes of the group, and enters it. Returns whether there is a group.

    Raises Refused if one of them cannot see the folder of the plan.
    """
    if _meeting is None:
        return False
    token = f"meeting.{secrets.token_hex(4)}{HALF}"  # which is removed by the next run, if this one is killed
    Path(plan.folder, token).touch()
    _meeting.set(PLAN, json.dumps(asdict(plan) | {"token": token}))
    enter(placement)
    require_shared(Path(plan.folder, token))
    return True


def enter(placement: Placement) -> None:
    """Makes this process a rank of its group, on a GPU of its own, and waits for the others."""
    global _meeting
    store, _meeting = _meeting or meet(), None
    rank, count, margin = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), 0.0
    if placement.device.type == "cuda":
        margin = GPU_MARGIN
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if placement.device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=placement.timeout + margin),
    )


def leave() -> None:
    """Ends the group, if there is one, once all ranks are here: none ends before the first has written.

    A rank that is gone already is no error of this one: it has reported its own.
    """
    if ranks.count() > 1:
        with contextlib.suppress(RuntimeError):
            ranks.barrier()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def require_shared(token: Path) -> None:
    """Raises Refused in every rank if one of them does not see a file that the first has written."""
    until = time.monotonic() + LISTING
    while not (seen := token.exists()) and time.monotonic() < until:
        time.sleep(0.2)
        list(token.parent.iterdir()) if token.parent.is_dir() else None  # asks the file server anew
    blind: list[str | None] = [None] * ranks.count()
    dist.all_gather_object(blind, None if seen else socket.gethostname())
    if ranks.is_first():
        token.unlink(missing_ok=True)
    if hosts := sorted({each for each in blind if each}):
        remedy = "name one on a file system that all nodes share, as in hydra.run.dir=/shared/RUN"
        raise Refused(f"run folder: {token.parent} is not the same folder on {', '.join(hosts)}; {remedy}")
