"""Group of the processes of one run: they meet, and the first tells the others what it has been asked to do."""

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
MEETING = timedelta(minutes=30)  # nodes of a cluster do not start at once
CHECKING = timedelta(days=7)  # for the first to check, and to make the data ready
LATER = 60.0  # seconds by which a collective on GPUs may take longer than one on the hosts
LAST_LOOK = 10.0  # seconds for the others to read why nothing begins
AFTER = 1.0  # seconds by which the first ends before the others, so that its status is what torchrun tells
SHOWING = 30.0  # seconds for a file to be seen on all nodes: network file systems keep listings for a while


@dataclass(frozen=True)
class Plan:
    """What a process needs to carry out a run together with others, in the place of a command line: plain values."""

    folder: str  # absolute
    content: Mapping[str, Any]  # the resolved config
    overrides: Sequence[str]
    start: str | None  # from where relative paths start; None for the current folder
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
        told = json.loads(_meeting.get(PLAN))
        _meeting.add(READ, 1)
        if not isinstance(told, int):
            return work(Plan(**told))
        time.sleep(AFTER)
        return told
    status = FAILED
    try:
        status = command()
    finally:
        if _meeting is not None:  # nothing was announced
            _meeting.set(PLAN, json.dumps(status))
            until = time.monotonic() + LAST_LOOK
            while _meeting.add(READ, 0) < int(os.environ["WORLD_SIZE"]) - 1 and time.monotonic() < until:
                time.sleep(0.05)
    return status


def meet() -> dist.Store:
    """Where the processes of a group meet; after a restart, one in which nothing of the attempt before is left."""
    store, _, _ = next(iter(dist.rendezvous("env://", timeout=MEETING)))
    return dist.PrefixStore(f"ssl_runner/{os.environ.get(RESTARTS, 0)}", store)


def announce(plan: Plan, placement: Placement) -> bool:
    """Has the other processes of the group, if this one was started in one, carry out a plan together with it.

    Raises Refused if they cannot see its folder.
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
    """Makes this process a rank of its group, on a GPU of its own. Waits for the others."""
    global _meeting
    store, _meeting = _meeting or meet(), None
    rank, count, late = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), 0.0
    if placement.device.type == "cuda":
        late = LATER
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if placement.device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=placement.timeout + late),
    )


def leave() -> None:
    """Ends the group once all of it is here, if there is one: none ends before the first has written.

    This rank's work is done: if another is gone already, it has ended, or its own end says why.
    """
    if ranks.count() > 1:
        with contextlib.suppress(RuntimeError):
            ranks.barrier()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def require_shared(token: Path) -> None:
    """Raises Refused in every rank if one of them does not see a file that the first has written."""
    until = time.monotonic() + SHOWING
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
