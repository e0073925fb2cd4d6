"""Process of one job of a sweep: its group, signals, device, threads and output. Its folder holds the config."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.errors import FAILED, REFUSED, Refused
from ssl_runner.run_folder.layout import CONSOLE


def run_job(resume: Callable[[Path, Console], int], folder: str, threads: int | None = None) -> int:
    """Carries out a job in this process, whose output goes to a file from now on. Returns its exit status.

    `resume` begins or goes on with the run of a folder. `threads`: of the CPU.
    """
    import torch

    with (Path(folder) / CONSOLE).open("a") as file:
        for stream in (sys.stdout, sys.stderr):  # and what libraries write to them
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return resume(Path(folder), Console(highlight=False, markup=False, width=120))
    except Refused as reason:
        print(f"refused: {reason}", file=sys.stderr)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return FAILED


def run_process(run: Callable[[str], int], folder: str, visible: str | None = None) -> None:
    """Runs a job in a process of its own, and ends it with the job's exit status.

    `visible`: the only CUDA device that the job sees.
    """
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    for number in SIGNALS:  # the server that it was forked from ignores them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    sys.exit(run(folder))


def end_with_parent() -> None:
    """A job whose sweep was killed saves and ends: whoever starts the sweep again is to find its folder free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
