"""Console and run.log: log lines of a run, and on a terminal a live progress line."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ssl_runner.duration import Length
from ssl_runner.engine.levels import attached
from ssl_runner.errors import Refused
from ssl_runner.run_folder.atomic import at_once
from ssl_runner.run_folder.layout import LOG

log = logging.getLogger("ssl_runner")
REFRESH = 0.25  # seconds between two drawings of the live line


class Terminal(Console):
    """Standard output as it is given, without markup. A reader that closes it, as `| head` does, ends nothing."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, **options)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ConsoleHandler(logging.Handler):
    """Prints messages; routine ones only if no live line shows the same."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "routine", False) and self.console.is_terminal:
            return
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        text = record.getMessage()  # without a traceback: that is in run.log
        if record.levelno != logging.INFO:
            text = f"{record.levelname.lower()}: {text}"
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class RunLogHandler(logging.FileHandler):
    """Appends messages to a file, as long as the disk takes them."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", opener=at_once)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the console has the message, and what the disk refuses the run itself will say."""


class Journal(MemoryHandler):
    """Buffers messages until a run folder is there, whose run.log then gets them all, and later ones at once."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix`: begins each line; routine ones have none, and with a prefix they are left out."""
        super().__init__(capacity=1, flushLevel=logging.NOTSET)  # without a target, what is flushed stays in the buffer
        self.prefix = prefix.replace("%", "%%")
        self.setLevel(logging.WARNING if prefix else logging.NOTSET)

    def attach(self, folder: Path) -> None:
        """Raises OSError."""
        file = RunLogHandler(folder / LOG, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)-7s {self.prefix}%(message)s", "%Y-%m-%d %H:%M:%S")
        )
        self.setTarget(file)
        self.flush()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Records what ends the body in the file alone; whoever called says it on the console."""
        try:
            yield
        except Exception as reason:
            trace = None if isinstance(reason, Refused) else (type(reason), reason, reason.__traceback__)
            self.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "did not begin: %s", (reason,), trace))
            raise

    def close(self) -> None:
        file = self.target
        super().close()
        if file is not None:
            file.close()


@contextmanager
def journal(console: Console, prefix: str = "") -> Iterator[Journal]:
    """The logger's handlers for one job. `prefix`: of a process beside the one that writes; begins its lines."""
    handlers = (ConsoleHandler(console), book := Journal(prefix))
    before, threading.excepthook = threading.excepthook, report_dead_thread
    try:
        with attached(*handlers):
            yield book
    finally:
        threading.excepthook = before
        for handler in handlers:
            with suppress(OSError):  # a full disk does not take the last lines either
                handler.close()


def report_dead_thread(died: threading.ExceptHookArgs) -> None:
    """A line about a thread that ended in an exception, as TensorBoard's does on a full disk; the rest to run.log."""
    log.error("a thread died: %s", died.exc_value, exc_info=died.exc_value)


class Progress:
    """Epoch, step, loss, samples/s, time left and the last accuracies of a run.

    On a terminal a live line shows them and the log lines go to run.log alone; elsewhere the log lines are seen.
    """

    def __init__(self, console: Console, length: Length):
        self.length = length
        self.start = 0  # where this process began
        self.loss: float | None = None
        self.shares: dict[str, float] = {}  # by evaluator
        self.done, self.seconds = 0, 0.0  # steps that were reported, and what they took
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, step: int, seconds: float, doing: str = "") -> None:
        """Refreshes the live line, `seconds` after the last report; nothing if there is no terminal."""
        if self._live and (doing or time.perf_counter() - self._shown > REFRESH):
            self._shown = time.perf_counter()
            line = self.line(step, step - self.start, self.seconds + seconds, doing)
            self._live.update(Text(line, style="cyan", no_wrap=True, overflow="ellipsis"), refresh=True)

    def report(self, step: int, steps: int, seconds: float) -> None:
        """A log line about the last `steps` steps, which took `seconds`."""
        self.done += steps
        self.seconds += seconds
        self.tell(self.line(step, self.done, self.seconds))

    def tell(self, line: str) -> None:
        log.info(line, extra={"routine": True})

    @property
    def samples_per_second(self) -> float:
        return self.done * self.length.batch_size / self.seconds if self.seconds else 0.0

    def line(self, step: int, done: int, seconds: float, doing: str = "") -> str:
        length, rate = self.length, done / seconds if seconds else 0.0
        parts = [
            f"{100 * step / length.steps:3.0f} %",
            f"epoch {step / length.steps_per_epoch:.1f}/{length.epochs:.4g}",
            f"step {step}/{length.steps}",
            f"loss {self.loss:.4f}" if self.loss is not None else "",
            f"{rate * length.batch_size:,.0f} samples/s",
            f"{clock((length.steps - step) / rate)} left" if rate else "",
            *(f"{name} {100 * value:.1f} %" for name, value in self.shares.items()),
            doing,
        ]
        return "  ".join(filter(None, parts))


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:00:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
