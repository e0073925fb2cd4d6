"""Launch of a run's processes on this machine by torch's elastic launcher, and the report of how one of them died."""

import ctypes
import gc
import importlib
import logging
import multiprocessing
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ssl_runner.device.placement import Placement
from ssl_runner.engine.console import journal
from ssl_runner.engine.interrupt import SIGNALS, Interrupt
from ssl_runner.errors import FAILED, ProcessFailed, Refused, plural
from ssl_runner.run.group import Plan
from ssl_runner.run.report import mark_summary
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.layout import CHECKPOINTS
from ssl_runner.run_folder.lock import locked

WORKER = "ssl_runner.run.worker"  # imported in the processes alone
THREADS = "OMP_NUM_THREADS"
QUIET = "TORCH_CPP_LOG_LEVEL"  # else DDP warns, at each run, of what is intended
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
LOOK = 0.1  # seconds between two looks at the processes
GRACE = 5.0  # seconds for the others to end by themselves once one has died: they wait for it in a collective
FAILURE_DELAY = 1.0  # seconds until a process that failed ends: if another was killed, the cause, that one is first

log = logging.getLogger("ssl_runner")


def launch(plan: Plan, placement: Placement, console: Console) -> int:
    """Carries out a plan in several processes of this machine. Returns the exit status.

    Signals are passed on to them. If one dies, the others are ended; with restarts left, all begin again from the
    newest checkpoint. If this process dies, they save and end.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    count, cores = placement.processes, torch.get_num_threads()
    if placement.device.type == "cpu" and count > cores:
        console.print(f"warning: {count} processes compute on {plural(cores, 'core')}", style="yellow", soft_wrap=True)
    for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they say is said below in one line
    before = dict(os.environ)
    os.environ |= {QUIET: "ERROR", THREADS: str(max(1, cores // count)), **before}
    with tempfile.TemporaryDirectory() as logs, ThreadPoolExecutor(1, initializer=block_signals) as pool:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=Path(plan.folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=placement.restarts,
            monitor_interval=LOOK,
            logs_specs=DefaultLogsSpecs(logs),
            local_addr="localhost",
        )
        width = None if console.is_terminal else console.width
        future = pool.submit(elastic_launch(config, begin_work), plan, width, os.getpid())
        try:
            hurried = watch(future)
            return future.result()[0]
        except ChildFailedError as error:
            if hurried:
                return 128 + signal.SIGINT
            return report(plan, cause(*error.get_first_failure(), count), console)
        finally:
            os.environ.clear()
            os.environ |= before


def block_signals() -> None:
    """Blocks signals in this thread and so in the processes that it starts, until these have handlers that save."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def begin_work(plan: Plan, width: int | None, parent: int) -> int:
    """The main function of each process. Returns the exit status."""
    with suppress(OSError):
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    with suppress(OSError, AttributeError):
        # Linux sends it once for each thread of a parent that dies. Torch asks for SIGINT, of which the second one
        # would end the process before it has saved.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        status: int = importlib.import_module(WORKER).work(plan, width) if os.getppid() == parent else FAILED
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception:
        time.sleep(FAILURE_DELAY)
        raise
    if os.getppid() != parent:  # torch would wait for it
        os._exit(status)
    gc.freeze()  # else the end of the interpreter takes seconds to look through all that torch has made
    return status


def watch(future: Future[Any]) -> bool:
    """Passes signals on until all processes have ended, and kills those that outlive one that has died.

    Returns whether there was a second Ctrl-C, for which they do not save.
    """
    processes: dict[int | None, BaseProcess] = {}
    doomed: dict[int | None, BaseProcess] = {}
    passed, hurried, until = False, False, 0.0
    with Interrupt() as interrupt:
        while not future.done():
            try:
                wait([future], LOOK)
                processes |= {each.pid: each for each in multiprocessing.active_children() if each.pid not in doomed}
                if any(each.exitcode for each in processes.values()):  # with restarts, others follow
                    doomed, processes, until = processes, {}, time.monotonic() + GRACE
                if time.monotonic() > until:
                    send(signal.SIGKILL, doomed)
                if interrupt.signal and not passed:
                    passed = True
                    send(interrupt.signal, processes)
            except KeyboardInterrupt:
                hurried, doomed, until = True, doomed | processes, time.monotonic() + GRACE
                send(signal.SIGINT, processes)
    return hurried


def send(number: int, processes: Mapping[int | None, BaseProcess]) -> None:
    for each in processes.values():
        if each.pid and each.is_alive():
            with suppress(ProcessLookupError):
                os.kill(each.pid, number)


def cause(rank: int, failure: Any, count: int) -> str:
    """A line that says how the process died that was the first to end."""
    words = failure.message["message"] if isinstance(failure.message, dict) else str(failure.message)
    if failure.exitcode < 0:
        return f"process {rank} of {count} was killed by signal {-failure.exitcode}"
    return words.partition(f"{ProcessFailed.__name__}: ")[2] or f"process {rank} of {count} failed: {words}"


def report(plan: Plan, error: str, console: Console) -> int:
    """Writes an error to run.log, to summary.json and to the console. Returns the exit status."""
    folder = Path(plan.folder)
    kept = checkpoint.steps(folder / CHECKPOINTS)[-1:]
    newest = f"the newest checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
    with journal(console) as book, suppress(OSError, Refused), locked(folder):
        book.attach(folder)
        log.error("%s; %s; to go on: ssl-runner resume %s", error, newest, shlex.quote(plan.folder))
        mark_summary(folder, "failed", error)
    return FAILED
