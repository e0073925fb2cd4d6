"""A job of a sweep in a process of its own. It composes nothing: the folder holds the config."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from ssl_runner.engine.interrupt import SIGNALS
from ssl_runner.run_folder.layout import CONSOLE


def work(folder: str, threads: int | None = None, visible: str | None = None) -> None:
    """Begins or goes on with the run of a folder, and ends the process with its exit status.

    `threads`: of the CPU. `visible`: the only CUDA device that the job sees.
    """
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    for number in SIGNALS:  # the server that it was forked from ignores them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    with output(Path(folder) / CONSOLE):
        sys.exit(carried_out(folder, threads))


def carried_out(folder: str, threads: int | None = None) -> int:
    """Carries the run of a folder out in this process. Returns its exit status."""
    import torch
    from rich.console import Console

    from ssl_runner.errors import Refused
    from ssl_runner.run.resume import resume

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return resume(Path(folder), Console(highlight=False, markup=False, width=120))
    except Refused as reason:
        print(f"refused: {reason}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def output(path: Path) -> Iterator[None]:
    """Sends stdout and stderr, also those of libraries, to the end of a file."""
    with path.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        yield
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def end_with_parent() -> None:
    """A job whose sweep was killed saves and ends: whoever starts the sweep again is to find its folder free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
